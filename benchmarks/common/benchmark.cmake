# crossdock_benchmark_flags(target): benchmarks are built for the machine that runs them.
function(crossdock_benchmark_flags target)
  target_compile_features(${target} PRIVATE cxx_std_20)
  # No -Wold-style-cast: MPICH's constants are such casts. -Wno-psabi: vectors by value never leave a translation unit.
  target_compile_options(${target} PRIVATE
    -O3 -march=native -Wall -Wextra -Werror -Wshadow -Wconversion -Wnon-virtual-dtor -Wno-psabi)
  target_include_directories(${target} PRIVATE "${CMAKE_CURRENT_FUNCTION_LIST_DIR}/..")
endfunction()
