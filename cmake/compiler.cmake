# Language level, warnings, sanitizers and linker for every target.
if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang" OR CMAKE_CXX_COMPILER_VERSION VERSION_LESS 19)
  if(NOT (CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_GREATER_EQUAL 15))
    message(FATAL_ERROR
      "Corral needs clang 19 or later: ${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION} "
      "miscompiles C++ coroutines or lacks parts of C++23.\n"
      "Install it with: tools/install-dependencies   (Debian: apt-get install clang-19)\n"
      "then configure in a fresh build folder with: cmake -DCMAKE_CXX_COMPILER=clang++-19 ...")
  endif()
endif()

set(CMAKE_CXX_STANDARD 23)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE RelWithDebInfo CACHE STRING "Build type" FORCE)
endif()

set(CORRAL_SANITIZE "" CACHE STRING "Sanitizers: empty, 'address,undefined' or 'thread'")
option(CORRAL_FUZZ "Build the libFuzzer targets" OFF)

add_library(corral_options INTERFACE)
target_include_directories(corral_options INTERFACE ${CMAKE_SOURCE_DIR})
target_compile_options(corral_options INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion -Wnon-virtual-dtor -Wold-style-cast
  -Wimplicit-fallthrough -Werror -fno-strict-aliasing)
if(CORRAL_SANITIZE)
  # The function sanitizer cannot represent coroutine frames.
  target_compile_options(corral_options INTERFACE -fsanitize=${CORRAL_SANITIZE} -fno-sanitize-recover=all
    -fno-sanitize=function -fno-omit-frame-pointer)
  target_link_options(corral_options INTERFACE -fsanitize=${CORRAL_SANITIZE})
endif()
if(CORRAL_FUZZ)
  target_compile_options(corral_options INTERFACE -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize=function
    -fno-sanitize-recover=all)
  target_link_options(corral_options INTERFACE -fsanitize=address,undefined)
endif()
find_program(CORRAL_LLD NAMES ld.lld-19 ld.lld)
if(CORRAL_LLD)
  target_link_options(corral_options INTERFACE --ld-path=${CORRAL_LLD})
endif()
find_program(CORRAL_CCACHE ccache)
if(CORRAL_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CORRAL_CCACHE})
endif()
