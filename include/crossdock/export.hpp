// Symbol visibility. Everything is compiled with hidden visibility; what users call is marked CROSSDOCK_EXPORT, and
// what is nested in that but is not for users CROSSDOCK_HIDDEN.
#pragma once

#define CROSSDOCK_EXPORT __attribute__((visibility("default")))
#define CROSSDOCK_HIDDEN __attribute__((visibility("hidden")))
