#include "crossdock/doctor_checks.hpp"

#include <hwloc.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <system_error>

#include <fmt/format.h>

#include "backend/cuda/factory.hpp"
#include "base/cpu.hpp"
#include "base/error.hpp"
#include "base/file_descriptor.hpp"
#include "base/shared_memory.hpp"
#include "crossdock/machine.hpp"
#include "crossdock/terminal.hpp"

namespace crossdock::tool {

namespace {

std::string error_text(int error) { return std::generic_category().message(error); }

/// The choice in brackets of a line like "always [madvise] never".
std::string bracketed(const std::string& line) {
  const auto begin = line.find('[');
  const auto end = line.find(']');
  if (begin == std::string::npos || end == std::string::npos || end < begin) return {};
  return line.substr(begin + 1, end - begin - 1);
}

/// Number of NUMA nodes; 0 if hwloc cannot say.
int count_numa_nodes() {
  hwloc_topology_t topology = nullptr;
  if (hwloc_topology_init(&topology) != 0) return 0;
  const std::unique_ptr<hwloc_topology, decltype(&hwloc_topology_destroy)> owner(topology, &hwloc_topology_destroy);
  if (hwloc_topology_load(topology) != 0) return 0;
  return hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_NUMANODE);
}

}  // namespace

Finding check_shared_memory() {
  constexpr std::size_t kSize = 1U << 20U;
  try {
    auto memory = SharedMemory::create(kSize, false);
    memory.data()[kSize - 1] = std::byte{1};
    return {Health::kOk, "shared memory", "memfd works; nothing is put into /dev/shm"};
  } catch (const std::exception& error) {
    return {Health::kNo, "shared memory", error.what()};
  }
}

Finding check_memory_size() {
  const auto available = available_memory_bytes();
  const auto total = describe_machine().memory_bytes;
  if (available <= 0) return {Health::kNote, "memory", "the kernel does not say how much is available"};
  return {Health::kOk, "memory", fmt::format("{} of {} available", format_bytes(available), format_bytes(total))};
}

Finding check_reserved_huge_pages() {
  const std::string count = read_line("/proc/sys/vm/nr_hugepages");
  if (!count.empty() && count != "0") {
    return {Health::kOk, "huge pages", fmt::format("{} reserved; arenas use them where they fit", count)};
  }
  return {Health::kNote, "huge pages",
          "none reserved; root may with sysctl vm.nr_hugepages=N (makes the first touch of an arena faster)"};
}

Finding check_transparent_huge_pages() {
  const std::string choice = bracketed(read_line("/sys/kernel/mm/transparent_hugepage/shmem_enabled"));
  constexpr const char* kSubject = "  transparent";
  if (choice == "always" || choice == "within_size" || choice == "advise" || choice == "force") {
    return {Health::kOk, kSubject, fmt::format("allowed for shared memory ({})", choice)};
  }
  if (choice.empty()) return {Health::kNote, kSubject, "this kernel has none for shared memory; normal pages will do"};
  return {Health::kNote, kSubject,
          fmt::format("off for shared memory ({}); root may write advise to .../transparent_hugepage/shmem_enabled",
                      choice)};
}

Finding check_cores(int num_ranks) {
  const int cores = usable_cores();
  if (num_ranks <= cores) {
    return {Health::kOk, "cores", fmt::format("{} usable for {} ranks", cores, num_ranks)};
  }
  return {Health::kNote, "cores",
          fmt::format("{} usable for {} ranks; they take turns, and waits yield at once", cores, num_ranks)};
}

Finding check_numa() {
  const int nodes = count_numa_nodes();
  if (nodes <= 0) return {Health::kNote, "NUMA", "hwloc cannot say how memory is laid out"};
  if (nodes == 1) return {Health::kOk, "NUMA", "one node: all memory is equally near"};
  return {Health::kNote, "NUMA",
          fmt::format("{} nodes; bind each rank to one (numactl, hwloc-bind) so that its arena is near", nodes)};
}

Finding check_simd() {
  const std::string level = simd_level();
  const bool wide = level == "AVX-512" || level == "AVX2" || level == "NEON";
  return {wide ? Health::kOk : Health::kNote, "SIMD", wide ? level : level + "; sums will be slow"};
}

Finding check_pidfd() {
  const FileDescriptor process(static_cast<int>(::syscall(SYS_pidfd_open, ::getpid(), 0)));  // NOLINT: no wrapper yet
  if (process.valid()) return {Health::kOk, "pidfd", "the death of a rank is noticed at once"};
  return {Health::kNote, "pidfd", fmt::format("{}; the death of a rank is noticed later", error_text(errno))};
}

Finding check_open_files(int num_ranks) {
  constexpr int kPerPeer = 4;  // window, process, and two sockets while the group is made
  constexpr int kOwn = 32;
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return {Health::kNote, "open files", error_text(errno)};
  const auto needed = static_cast<rlim_t>(num_ranks) * kPerPeer + kOwn;
  if (limit.rlim_cur >= needed) {
    return {Health::kOk, "open files",
            fmt::format("{} allowed, {} ranks need about {}", limit.rlim_cur, num_ranks, needed)};
  }
  return {Health::kNo, "open files",
          fmt::format("{} allowed, {} ranks need about {}: raise ulimit -n", limit.rlim_cur, num_ranks, needed)};
}

Finding check_loopback() {
  const FileDescriptor socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const auto* generic = reinterpret_cast<const sockaddr*>(&address);  // NOLINT: the socket interface
  if (socket.valid() && ::bind(socket.get(), generic, sizeof(address)) == 0 && ::listen(socket.get(), 1) == 0) {
    return {Health::kOk, "bootstrap", "TCP on the loopback interface works"};
  }
  return {Health::kNo, "bootstrap", fmt::format("TCP on the loopback interface: {}", error_text(errno))};
}

std::vector<Finding> check_cuda() {
  try {
    std::vector<Finding> findings;
    for (std::string& line : cuda::describe_devices()) findings.push_back({Health::kOk, "CUDA", std::move(line)});
    if (findings.empty()) findings.push_back({Health::kNote, "CUDA", "built, but there is no device"});
    return findings;
  } catch (const Error& error) {
    return {{Health::kNote, "CUDA", error.what()}};
  }
}

std::vector<Finding> check_machine(int num_ranks) {
  std::vector<Finding> findings{check_shared_memory(),
                                check_memory_size(),
                                check_reserved_huge_pages(),
                                check_transparent_huge_pages(),
                                check_cores(num_ranks),
                                check_numa(),
                                check_simd(),
                                check_pidfd(),
                                check_open_files(num_ranks),
                                check_loopback()};
  for (Finding& finding : check_cuda()) findings.push_back(std::move(finding));
  findings.push_back({Health::kNote, "UCX", "not built: this version works within one machine"});
  return findings;
}

}  // namespace crossdock::tool
