// The whole public API.
#pragma once

#include <crossdock/bootstrap.hpp>
#include <crossdock/buffer.hpp>
#include <crossdock/config.hpp>
#include <crossdock/environment.hpp>
#include <crossdock/error.hpp>
#include <crossdock/event.hpp>
#include <crossdock/handle.hpp>
#include <crossdock/layout.hpp>
#include <crossdock/low_latency.hpp>
#include <crossdock/tensor.hpp>
#include <crossdock/topology.hpp>
#include <crossdock/types.hpp>
#include <crossdock/version.hpp>
