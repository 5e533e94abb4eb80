// The control socket: replies, mistakes of clients, limits, and what happens to the socket's path.
#include "cached/admin/control_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

#include "base/unique_fd.h"
#include "cached/ctl/control_client.h"

namespace cached::admin {
namespace {

using nlohmann::json;
using testing::HasSubstr;

class ControlServerTest : public testing::Test {
 protected:
  ControlServerTest() {
    std::string name = "/tmp/cached_control_test.XXXXXX";
    directory_ = ::mkdtemp(name.data());
    path_ = directory_ + "/control.sock";
  }
  ~ControlServerTest() override {
    server_.reset();
    std::filesystem::remove_all(directory_);
  }

  void start() {
    Result<std::unique_ptr<ControlServer>> server = ControlServer::create(path_, commands());
    ASSERT_TRUE(server.ok()) << server.status().message();
    server_ = std::move(*server);
  }

  ControlCommands commands() {
    ControlCommands commands;
    commands["who"] = [](const ControlRequest& request) -> Result<json> {
      return json{{"uid", request.uid}, {"pid", request.pid}};
    };
    commands["large"] = [](const ControlRequest&) -> Result<json> {
      return json(std::string(1'000'000, 'x'));
    };
    commands["fail"] = [](const ControlRequest&) -> Result<json> { return Status(EACCES, "you may not"); };
    commands["argument"] = [](const ControlRequest& request) -> Result<json> {
      return json(request.arguments.at("path").get<std::string>());
    };
    commands["device"] = [](const ControlRequest& request) -> Result<json> {
      const Result<std::string> device = request.text_argument("device");
      return device.ok() ? Result<json>(json(*device)) : Result<json>(device.status());
    };
    commands["change"] = for_operator([this](const ControlRequest&) -> Result<json> {
      ++changes_;
      return json("changed");
    });
    commands["bytes"] = [](const ControlRequest&) -> Result<json> { return json("\xff"); };
    return commands;
  }

  UniqueFd connect_client() {
    UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path_.c_str(), path_.size() + 1);
    const timeval timeout{20, 0};
    ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
    EXPECT_EQ(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    return fd;
  }

  static void send_text(const UniqueFd& fd, const std::string& text) {
    for (size_t sent = 0; sent < text.size();) {
      const ssize_t count = ::send(fd.get(), text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
      if (count <= 0) return;  // the server hung up, which the test sees by what it receives
      sent += static_cast<size_t>(count);
    }
  }

  // The next line without its end; what came before the end of file otherwise.
  static std::string receive_line(const UniqueFd& fd) {
    std::string line;
    char piece[64 * 1024];
    for (;;) {
      const ssize_t seen = ::recv(fd.get(), piece, sizeof piece, MSG_PEEK);
      if (seen <= 0) return line;
      const char* end = static_cast<const char*>(std::memchr(piece, '\n', static_cast<size_t>(seen)));
      const size_t taken = end == nullptr ? static_cast<size_t>(seen) : static_cast<size_t>(end - piece) + 1;
      if (::recv(fd.get(), piece, taken, 0) != static_cast<ssize_t>(taken)) return line;
      line.append(piece, end == nullptr ? taken : taken - 1);
      if (end != nullptr) return line;
    }
  }

  json ask(const std::string& line) {
    const UniqueFd fd = connect_client();
    send_text(fd, line + "\n");
    return json::parse(receive_line(fd), nullptr, false);
  }

  std::string directory_;
  std::string path_;
  std::atomic<int> changes_{0};  // by the command "change"
  std::unique_ptr<ControlServer> server_;
};

TEST_F(ControlServerTest, AnswersWithCredentials) {
  start();
  const json reply = ask(R"({"command":"who"})");
  EXPECT_EQ(reply["ok"], true);
  EXPECT_EQ(reply["result"]["uid"], ::getuid());
  EXPECT_EQ(reply["result"]["pid"], ::getpid());
}

TEST_F(ControlServerTest, EverybodyMayConnect) {
  start();
  struct stat attributes {};
  ASSERT_EQ(::stat(path_.c_str(), &attributes), 0);
  EXPECT_EQ(attributes.st_mode & 0777, 0666U);
}

TEST_F(ControlServerTest, ClientLibraryIsAnswered) {
  start();
  EXPECT_EQ(ctl::ask_daemon(path_, "who").result["uid"], ::getuid());
  const ctl::ControlReply refused = ctl::ask_daemon(path_, "fail");
  EXPECT_EQ(refused.outcome, ctl::ControlReply::Outcome::kRefused);
  EXPECT_EQ(refused.error, "you may not");
  server_.reset();
  EXPECT_EQ(ctl::ask_daemon(path_, "who").outcome, ctl::ControlReply::Outcome::kUnreachable);
}

TEST_F(ControlServerTest, MistakesGetAReason) {
  start();
  EXPECT_THAT(ask(R"({"command":"none"})")["error"].get<std::string>(),
              HasSubstr("known are: argument, bytes, change"));
  EXPECT_EQ(ask(R"({"command":"fail"})")["errno"], EACCES);
  for (const char* line : {"", "{", "[]", "3", "\xff\xfe", R"({"command":3})", R"({"cmd":"who"})",
                           R"({"command":"argument"})", R"({"command":"argument","path":5})"}) {
    const json reply = ask(line);
    EXPECT_EQ(reply["ok"], false) << line;
    EXPECT_EQ(reply["errno"], EINVAL) << line;
  }
  EXPECT_EQ(ask(std::string(60'000, '['))["errno"], EINVAL);
}

TEST_F(ControlServerTest, ClientLibrarySendsArguments) {
  start();
  EXPECT_EQ(ctl::ask_daemon(path_, "device", {{"device", "/dev/a \"b\""}}).result, "/dev/a \"b\"");
  EXPECT_EQ(ctl::ask_daemon(path_, "device", {{"device", "\xff"}}).outcome,
            ctl::ControlReply::Outcome::kAnswered);
}

TEST_F(ControlServerTest, TextArgumentIsCheckedAndNamed) {
  start();
  EXPECT_EQ(ask(R"({"command":"device","device":"/dev/a"})")["result"], "/dev/a");
  for (const std::string& argument :
       {std::string("{}"), std::string(R"("")"), std::string("7"), "\"" + std::string(4097, 'x') + "\""}) {
    const json reply = ask(R"({"command":"device","device":)" + argument + "}");
    EXPECT_EQ(reply["errno"], EINVAL) << argument;
    EXPECT_THAT(reply["error"].get<std::string>(), HasSubstr("\"device\" needs \"device\""));
  }
  EXPECT_EQ(ask(R"({"command":"device"})")["errno"], EINVAL);
}

TEST_F(ControlServerTest, DaemonsOwnUserMayChange) {
  start();
  EXPECT_EQ(ask(R"({"command":"change"})")["result"], "changed");
  EXPECT_EQ(changes_, 1);
}

TEST(ControlRequest, RootAndTheDaemonsUserAreOperators) {
  ControlRequest request;
  for (const uid_t uid : {uid_t{0}, ::geteuid()}) {
    request.uid = uid;
    EXPECT_TRUE(request.from_operator());
  }
  request.uid = ::geteuid() + 1;
  EXPECT_FALSE(request.from_operator());
}

TEST_F(ControlServerTest, OthersMayLookAndNotChange) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to ask as somebody else";
  start();
  ASSERT_EQ(::chmod(directory_.c_str(), 0755), 0);
  json look;
  json change;
  std::thread([&] {
    // The system call itself changes this thread alone, unlike the C library's function.
    constexpr uid_t kNobody = 65'534;
    ASSERT_EQ(::syscall(SYS_setresuid, -1, kNobody, -1), 0);
    look = ask(R"({"command":"who"})");
    change = ask(R"({"command":"change"})");
  }).join();
  EXPECT_EQ(look["result"]["uid"], 65'534);
  EXPECT_EQ(change["errno"], EPERM);
  EXPECT_THAT(change["error"].get<std::string>(), HasSubstr("\"change\" is for root"));
  EXPECT_EQ(changes_, 0);
}

TEST_F(ControlServerTest, ReplyIsValidTextWhateverACommandSays) {
  start();
  EXPECT_EQ(ask(R"({"command":"bytes"})")["ok"], true);
}

TEST_F(ControlServerTest, ManyRequestsInOneConnectionAreAnsweredInOrder) {
  start();
  const UniqueFd fd = connect_client();
  std::string requests;
  for (int i = 0; i < 500; ++i) requests += R"({"command":"argument","path":")" + std::to_string(i) + "\"}\n";
  send_text(fd, requests);
  for (int i = 0; i < 500; ++i) ASSERT_EQ(json::parse(receive_line(fd))["result"], std::to_string(i));
}

TEST_F(ControlServerTest, RequestInPiecesAndHalfClosedConnectionAreServed) {
  start();
  const UniqueFd fd = connect_client();
  send_text(fd, R"({"comm)");
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  send_text(fd, "and\":\"large\"}\n{\"command\":\"who\"}\n");
  ::shutdown(fd.get(), SHUT_WR);
  EXPECT_GT(receive_line(fd).size(), 1'000'000U);
  EXPECT_EQ(json::parse(receive_line(fd))["ok"], true);
  EXPECT_EQ(receive_line(fd), "");
}

TEST_F(ControlServerTest, OversizeRequestIsRefusedAndTheConnectionClosed) {
  start();
  const UniqueFd fd = connect_client();
  send_text(fd, std::string(kMaximumRequestBytes + 100'000, ' '));
  EXPECT_EQ(json::parse(receive_line(fd), nullptr, false)["errno"], EMSGSIZE);
  EXPECT_EQ(receive_line(fd), "");
  EXPECT_EQ(ask(R"({"command":"who"})")["ok"], true);
}

TEST_F(ControlServerTest, ConnectionsAreLimitedAndComeBack) {
  start();
  std::vector<UniqueFd> clients;
  for (size_t i = 0; i < kMaximumConnections + kReservedConnections; ++i) {
    clients.push_back(connect_client());
    send_text(clients.back(), "{\"command\":\"who\"}\n");
    ASSERT_EQ(json::parse(receive_line(clients.back()))["ok"], true);
  }
  const UniqueFd refused = connect_client();
  EXPECT_EQ(json::parse(receive_line(refused))["errno"], EUSERS);
  clients.clear();
  json reply = json::object();
  for (int attempt = 0; attempt < 100 && reply.value("ok", false) == false; ++attempt) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    reply = ask(R"({"command":"who"})");
  }
  EXPECT_EQ(reply["ok"], true);
}

TEST_F(ControlServerTest, IdleConnectionIsClosedAndCostsNoCpu) {
  start();
  const UniqueFd silent = connect_client();
  const UniqueFd half = connect_client();
  send_text(half, "{");
  rusage before{};
  ::getrusage(RUSAGE_SELF, &before);
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(receive_line(silent), "");
  EXPECT_EQ(receive_line(half), "");
  const auto waited = std::chrono::steady_clock::now() - begin;
  rusage after{};
  ::getrusage(RUSAGE_SELF, &after);
  EXPECT_GT(waited, std::chrono::milliseconds(kIdleTimeoutMs - 1'000));
  EXPECT_LT(waited, std::chrono::milliseconds(kIdleTimeoutMs + 5'000));
  EXPECT_LT(after.ru_nvcsw - before.ru_nvcsw, 100) << "the thread slept";
}

TEST_F(ControlServerTest, SecondServerIsRefusedAndDoesNotDisturb) {
  start();
  const Result<std::unique_ptr<ControlServer>> second = ControlServer::create(path_, commands());
  EXPECT_EQ(second.error_number(), EADDRINUSE);
  EXPECT_EQ(ask(R"({"command":"who"})")["ok"], true);
}

TEST_F(ControlServerTest, SocketOfADeadDaemonIsReplacedAndOwnOneRemoved) {
  {
    const UniqueFd dead(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path_.c_str(), path_.size() + 1);
    ASSERT_EQ(::bind(dead.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  }
  start();
  EXPECT_EQ(ask(R"({"command":"who"})")["ok"], true);
  server_.reset();
  EXPECT_FALSE(std::filesystem::exists(path_));
}

TEST_F(ControlServerTest, FileInTheWayIsLeftAlone) {
  std::ofstream(path_) << "precious";
  EXPECT_EQ(ControlServer::create(path_, commands()).error_number(), EEXIST);
  EXPECT_EQ(std::filesystem::file_size(path_), 8U);
}

TEST_F(ControlServerTest, FolderThatIsMissingIsAnError) {
  EXPECT_EQ(ControlServer::create(directory_ + "/none/control.sock", commands()).error_number(), ENOENT);
}

}  // namespace
}  // namespace cached::admin
