#include <gtest/gtest.h>

#include "bootstrap/tcp_group.hpp"

namespace crossdock::bootstrap_test {

INSTANTIATE_TEST_SUITE_P(Tcp, BootstrapConformance,
                         testing::Values(Implementation{"Open", [](int size) { return make_tcp_group(size, ""); }},
                                         Implementation{"WithSecret",
                                                        [](int size) { return make_tcp_group(size, "open sesame"); }}),
                         [](const auto& instance) { return instance.param.name; });

}  // namespace crossdock::bootstrap_test
