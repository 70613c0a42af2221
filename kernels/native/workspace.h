// Memory for the numbers between the operations of an operation that is made of others.
#pragma once

#include "operations.h"

namespace rmbpo::RMBPO_ISA {

// Each piece is this thread's until the thread makes another Workspace.
class Workspace {
 public:
  float* take(long floats) { return scratch(floats, next_++); }

 private:
  int next_ = 1;  // 0 belongs to the operations it is made of
};

}  // namespace rmbpo::RMBPO_ISA
