/// Whether this is a build that watches every use of memory: pools are left out then, and long tests do less.
#pragma once

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define CORRAL_SANITIZED 1
#elif defined(__has_feature)
#define CORRAL_SANITIZED (__has_feature(address_sanitizer) || __has_feature(thread_sanitizer))
#else
#define CORRAL_SANITIZED 0
#endif
