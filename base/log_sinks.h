// Where the log's lines go: sinks for spdlog that never block for long and never fail their caller. For
// log.cc.
#pragma once

#include <spdlog/spdlog.h>

#include <cstdint>
#include <memory>
#include <string>

#include "base/log.h"
#include "base/status.h"

namespace cached::log_sinks {

// Whether stderr is connected to the journal, as systemd's JOURNAL_STREAM tells.
bool stderr_is_journal();

spdlog::sink_ptr standard_error(LogFormat format);
// journald's native protocol, one datagram a message: MESSAGE, PRIORITY, SYSLOG_IDENTIFIER, SYSLOG_PID, TID.
// errno of the socket.
Result<spdlog::sink_ptr> journal(const std::string& program, const std::string& socket_path);
// Appends to a file, which is rotated if it is a regular one. errno of the open.
Result<spdlog::sink_ptr> file(const std::string& path, uint64_t rotate_bytes, unsigned rotate_files,
                              LogFormat format);

// Lines that could not be written, of all sinks.
uint64_t failed_lines();

}  // namespace cached::log_sinks
