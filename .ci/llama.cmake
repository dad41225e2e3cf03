# For a build that is tested and thrown away. The tools (arguments, downloads, chats) are half of it,
# and no part of what Python calls; the library that builds graphs is quick enough with -O1, while what
# computes them keeps its flags.
set(LLAMA_BUILD_COMMON OFF)
cmake_language(DEFER CALL target_compile_options llama PRIVATE -O1)
