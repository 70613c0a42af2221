#!/bin/sh
# Builds the native library with AddressSanitizer and UndefinedBehaviorSanitizer into a folder of its
# own, and runs the native kernels' tests on it. Run from the checkout: sh tests/sanitize.sh
set -e
build=${SANITIZE_BUILD:-build/sanitized}
mkdir -p "$build"
version=$(python -c "import rmbpo_fast; print(rmbpo_fast.__version__)")
cmake -S . -B "$build" -DRMBPO_FAST_SANITIZE=ON -DCMAKE_BUILD_TYPE=RelWithDebInfo \
  -DSKBUILD_PROJECT_VERSION="$version" \
  -DPython_EXECUTABLE="$(command -v python)" \
  -Dnanobind_DIR="$(python -m nanobind --cmake_dir)" >"$build.log"
cmake --build "$build" -j2 >>"$build.log"
# the interpreter isn't instrumented, so the runtimes come first; it leaks on purpose at its end;
# -s: what a sanitizer says must not be captured, it ends the process
LD_PRELOAD="$(c++ -print-file-name=libasan.so) $(c++ -print-file-name=libubsan.so)" \
ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 PYTHONPATH="$build" \
  python -m pytest tests/kernels/test_native*.py -q -s -p no:cacheprovider "$@"
