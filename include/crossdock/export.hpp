// Symbol visibility. Everything is compiled with hidden visibility; what users call is marked CROSSDOCK_EXPORT.
#pragma once

#define CROSSDOCK_EXPORT __attribute__((visibility("default")))
