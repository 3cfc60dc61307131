#include "bootstrap/members.hpp"

#include <utility>

#include "bootstrap/socket.hpp"

namespace crossdock::bootstrap {

void send_to_all(const Members& members, Bytes frames) {
  const auto shared = std::make_shared<const Bytes>(std::move(frames));
  for (const auto& member : members) {
    if (member) member->send(shared);
  }
}

bool flush_all(const Members& members, const Deadline& deadline) {
  while (true) {
    std::vector<pollfd> entries;
    for (const auto& member : members) {
      if (member) member->flush();
      if (member && member->has_unsent()) entries.push_back(member->poll_entry(0));
    }
    if (entries.empty()) return true;
    if (deadline.passed() || !poll_until(entries, deadline)) return false;
  }
}

void announce_failure(const Members& members, const Failure& failure) {
  constexpr std::chrono::milliseconds kPatience{200};
  Bytes frames;
  append_failure(frames, failure);
  send_to_all(members, std::move(frames));
  static_cast<void>(flush_all(members, Deadline(kPatience)));
}

}  // namespace crossdock::bootstrap
