#include "report.hpp"

#include <mpi.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <stdexcept>

namespace peers {
namespace {

std::string library_version() {
  char text[MPI_MAX_LIBRARY_VERSION_STRING];
  int length = 0;
  MPI_Get_library_version(text, &length);
  std::string line(text, static_cast<std::size_t>(length));
  line = line.substr(0, line.find_first_of("\n,"));
  std::replace_if(
      line.begin(), line.end(), [](char c) { return c == '"' || c == '\\' || c < ' '; }, ' ');
  return line;
}

void write_phase(std::ostream& out, const char* name, const Phase& phase) {
  out << '"' << name << "\":{\"p50_us\":" << phase.quantile_us(0.5) << ",\"p90_us\":" << phase.quantile_us(0.9)
      << ",\"p99_us\":" << phase.quantile_us(0.99) << ",\"min_us\":" << phase.quantile_us(0)
      << ",\"bytes\":" << phase.bytes << ",\"gb_per_s\":" << phase.gb_per_s() << '}';
}

void write_variant(std::ostream& out, const Variant& variant) {
  out << '"' << variant.name << "\":{\"verified\":" << (variant.verified ? "true" : "false") << ',';
  write_phase(out, "dispatch", variant.dispatch);
  out << ',';
  write_phase(out, "combine", variant.combine);
  if (!variant.round_trip.sorted_us.empty()) {
    out << ',';
    write_phase(out, "round_trip", variant.round_trip);
  }
  out << '}';
}

void write_config(std::ostream& out, const Job& job) {
  const Options& options = *job.options;
  out << "\"config\":{\"mode\":\"" << (options.mode == Mode::kNormal ? "normal" : "low-latency") << "\",\"expert\":\""
      << (options.expert == Expert::kCopy ? "copy" : "inplace") << "\",\"ranks\":" << job.ranks
      << ",\"tokens\":" << options.tokens << ",\"hidden\":" << options.hidden << ",\"topk\":" << options.topk
      << ",\"experts\":" << options.experts << ",\"dtype\":\"bf16\",\"routing\":\"" << options.routing
      << "\",\"iterations\":" << options.iterations << ",\"pages\":\""
      << (options.pages == Pages::kHuge ? "huge" : "small") << "\",\"loop\":" << options.loop
      << ",\"seed\":" << options.seed << '}';
}

}  // namespace

void print_table(std::span<const Variant> variants) {
  std::printf("%-24s %14s %10s %14s %10s %16s  %s\n", "variant", "dispatch, us", "GB/s", "combine, us", "GB/s",
              "round trip, us", "verified");
  for (const Variant& one : variants) {
    std::printf("%-24s %14.1f %10.2f %14.1f %10.2f %16.1f  %s\n", one.name.c_str(), one.dispatch.quantile_us(0.5),
                one.dispatch.gb_per_s(), one.combine.quantile_us(0.5), one.combine.gb_per_s(),
                one.round_trip.quantile_us(0.5), one.verified ? "yes" : "NO");
  }
}

void write_json(const Job& job, std::span<const Variant> variants) {
  std::ofstream out(job.options->json);
  out.precision(9);
  out << "{\"schema\":1,\"mpi\":\"" << library_version() << "\",";
  write_config(out, job);
  out << ",\"variants\":{";
  for (std::size_t i = 0; i < variants.size(); ++i) {
    if (i > 0) out << ',';
    write_variant(out, variants[i]);
  }
  const bool verified = std::all_of(variants.begin(), variants.end(), [](const Variant& one) { return one.verified; });
  out << "},\"verified\":" << (verified ? "true" : "false") << "}\n";
  if (!out.flush()) throw std::runtime_error("cannot write " + job.options->json);
}

}  // namespace peers
