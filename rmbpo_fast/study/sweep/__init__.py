"""Many runs on Ray."""
