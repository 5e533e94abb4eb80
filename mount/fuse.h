// libfuse's low-level header with the one API version that the mount is written for.
#pragma once

#define FUSE_USE_VERSION 314

#include <fuse_lowlevel.h>
