# Read by CMake right after llama-cpp-python's own project() line (CMAKE_PROJECT_llama_cpp_INCLUDE).
# The bindings force llama.cpp's command-line support library on, half of the compile time, and
# install nothing of it. A normal variable wins over their cache entry.
set(LLAMA_BUILD_COMMON OFF)
