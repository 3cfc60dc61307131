// What the program says to right and wrong command lines.
#include <algorithm>
#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tools/program.hpp"
#include "tools/safetensors_builder.hpp"

namespace crossdock::tool {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

TEST(CommandLine, HelpIsEverywhereAndHasExamples) {
  for (const char* arguments : {"--help", "demo --help", "bench --help", "doctor --help"}) {
    const auto result = run_program(arguments);
    EXPECT_EQ(result.exit_code, 0) << arguments;
    EXPECT_THAT(result.output, AllOf(HasSubstr("Examples:"), HasSubstr("crossdock "))) << arguments;
  }
}

TEST(CommandLine, VersionIsThatOfTheLibrary) {
  const auto result = run_program("--version");
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.output, StartsWith("crossdock 0."));
}

struct WrongUse {
  const char* arguments;
  const char* message;
};

class WrongUsage : public testing::TestWithParam<WrongUse> {};

TEST_P(WrongUsage, SaysWhatIsAllowedAndExitsWithTwo) {
  const auto result = run_program(GetParam().arguments);
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.output, AllOf(StartsWith("crossdock: "), HasSubstr(GetParam().message)));
  EXPECT_THAT(result.output, Not(HasSubstr("terminate")));
}

INSTANTIATE_TEST_SUITE_P(
    CommandLine, WrongUsage,
    testing::Values(
        WrongUse{"", "allowed: demo bench doctor"},                                              //
        WrongUse{"unload", "allowed: demo bench doctor"}, WrongUse{"demo --rank 3", "--ranks"},  //
        WrongUse{"demo --ranks 0", "1 to 64"},                                                   //
        WrongUse{"demo --ranks 65", "1 to 64"}, WrongUse{"demo --ranks many", "--ranks"},        //
        WrongUse{"demo --answers fp4", "bf16|float32"}, WrongUse{"bench --mode quick", "low-latency|normal"},
        WrongUse{"demo --mode low-latency --answers float32", "--mode normal"},
        WrongUse{"bench --dtype int8", "bf16|fp8"},                                                                //
        WrongUse{"bench --dtype fp8 --hidden 200", "multiple of 128"}, WrongUse{"bench --tokens -1", "--tokens"},  //
        WrongUse{"bench --topk 9 --experts 8", "top-9 needs at least as many experts"},
        WrongUse{"bench --iterations 0", "--iterations"},  //
        WrongUse{"bench --threads --processes", "--threads"}, WrongUse{"bench --logfmt", "--mode low-latency"},
        WrongUse{"bench --mode low-latency --logfmt --combine-input arena", "inplace and outside are allowed"},
        WrongUse{"bench --combine-input far", "arena|inplace|outside"},
        WrongUse{"bench --ranks 17 --routing trace_e64_k8", "has 16 ranks"},
        WrongUse{"bench --tokens 4097 --routing trace_e64_k8", "has 4096 tokens"},
        WrongUse{"bench --routing trace_e64_k8:2", "layers 0 to 1"},
        WrongUse{"bench --experts 64 --routing trace_e256_k8", "has 256 experts"},
        WrongUse{"bench --topk 4 --routing trace_e256_k8", "has top-8"}, WrongUse{"doctor --ranks 0", "1 to 64"}));

TEST(CommandLine, MissingFilesAreNamed) {
  const auto trace = run_program("bench --routing nowhere.safetensors");
  EXPECT_EQ(trace.exit_code, 1);
  EXPECT_THAT(trace.output, HasSubstr("crossdock: there is no file nowhere.safetensors"));
  const auto data = run_program("demo --data /nowhere");
  EXPECT_EQ(data.exit_code, 1);
  EXPECT_THAT(data.output, HasSubstr("crossdock: --data /nowhere is not a directory"));
}

TEST(CommandLine, AMalformedFileIsOneClearLine) {
  const auto path = std::filesystem::path(testing::TempDir()) / "crossdock_malformed.safetensors";
  write_file(path, make_safetensors("{\"topk_idx\":", 0));
  const auto result = run_program("bench --routing " + path.string());
  std::filesystem::remove(path);
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.output, AllOf(StartsWith("crossdock: "), HasSubstr("header is not JSON")));
  EXPECT_EQ(std::count(result.output.begin(), result.output.end(), '\n'), 1);
}

TEST(CommandLine, DataOfAnInstallationComesBeforeThatOfTheSources) {
  namespace fs = std::filesystem;
  const fs::path prefix = fs::path(testing::TempDir()) / "crossdock_prefix";
  const fs::path data = prefix / "share" / "crossdock" / "data";
  fs::create_directories(data);
  fs::create_directories(prefix / "bin");
  fs::copy_file(CROSSDOCK_PROGRAM, prefix / "bin" / "crossdock", fs::copy_options::overwrite_existing);
  write_file(data / "moe_layer.safetensors", make_safetensors("{}", 0));
  const auto result = run_program("demo", (prefix / "bin" / "crossdock").string());
  fs::remove_all(prefix);
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.output, HasSubstr((data / "moe_layer.safetensors").string() + ": there is no tensor 'x'"));
}

TEST(CommandLine, TooMuchMemoryIsRefusedBeforeAnythingRuns) {
  const auto result = run_program("bench --ranks 64 --tokens 1000000 --hidden 65536 --topk 1 --experts 1");
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.output, HasSubstr("lower --ranks, --tokens or --hidden"));
  const auto packed = run_program("bench --mode low-latency --ranks 8 --tokens 4096 --hidden 65536 --experts 256");
  EXPECT_EQ(packed.exit_code, 1);
  EXPECT_THAT(packed.output, HasSubstr("lower --ranks, --tokens or --hidden"));
}

}  // namespace
}  // namespace crossdock::tool
