// For LeakSanitizer: a coroutine that sleeps when its reactor stops is never freed (Reactor::stop). A daemon
// ends then; a test makes many of them. These are the ones that sleep.
extern "C" const char* __lsan_default_suppressions();
extern "C" const char* __lsan_default_suppressions() {
  return "leak:cached::io::internal::run_detached\n"
         "leak:cached::ssd_tier::SsdShard::watch\n"
         "leak:cached::ssd_tier::SsdShard::read\n"
         "leak:cached::ssd_tier::SsdShard::run\n"
         "leak:cached::ssd_tier::Writer::\n"
         "leak:cached::ssd_tier::DeviceLog::record\n"
         "leak:cached::ssd_tier::DeviceLog::probe\n"
         "leak:cached::readpath::SlotQueue::tick\n";
}
