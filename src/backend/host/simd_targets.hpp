// Which of Highway's targets are compiled. To be included before any header of Highway.
#pragma once

/// Vectors whose size is known at run time only cannot be elements of an array, which the sums are kept in. Processors
/// with SVE use NEON.
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
