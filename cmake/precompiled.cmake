# The headers that nearly every source reads are parsed once per set of flags: most of a build's time went there.
set(CORRAL_COMMON_HEADERS
  <algorithm> <array> <chrono> <coroutine> <cstdint> <cstring> <expected> <filesystem> <functional> <map> <memory>
  <optional> <ranges> <set> <span> <sstream> <string> <string_view> <utility> <variant> <vector> <fmt/format.h>)

# corral_precompiled(NAME HEADERS header... LINKS library... OPTIONS option...): a target to reuse precompiled headers from.
function(corral_precompiled name)
  cmake_parse_arguments(ARG "" "" "HEADERS;LINKS;OPTIONS" ${ARGN})
  file(WRITE ${CMAKE_BINARY_DIR}/${name}.cpp.new "// Holds precompiled headers.\n")
  file(COPY_FILE ${CMAKE_BINARY_DIR}/${name}.cpp.new ${CMAKE_BINARY_DIR}/${name}.cpp ONLY_IF_DIFFERENT)
  add_library(${name} STATIC ${CMAKE_BINARY_DIR}/${name}.cpp)
  target_link_libraries(${name} PRIVATE corral_options ${ARG_LINKS})
  target_compile_options(${name} PRIVATE ${ARG_OPTIONS})
  target_precompile_headers(${name} PRIVATE ${ARG_HEADERS})
endfunction()

corral_precompiled(corral_precompiled_common HEADERS ${CORRAL_COMMON_HEADERS} LINKS fmt::fmt spdlog::spdlog)
