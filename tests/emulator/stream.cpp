#include "emulator/stream.hpp"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "emulator/devices.hpp"

using crossdock::emulator::require_no_callback;

namespace {

using Work = std::function<void()>;

/// Set once.
class Mark {
 public:
  void set() {
    const std::lock_guard lock(mutex_);
    time_ = std::chrono::steady_clock::now();
    is_set_ = true;
    changed_.notify_all();
  }
  [[nodiscard]] bool is_set() const {
    const std::lock_guard lock(mutex_);
    return is_set_;
  }
  void wait() const {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return is_set_; });
  }
  [[nodiscard]] std::chrono::steady_clock::time_point time() const {
    const std::lock_guard lock(mutex_);
    return time_;
  }

 private:
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  bool is_set_ = false;
  std::chrono::steady_clock::time_point time_;
};

/// Work in order on a thread, which ends when the stream is destroyed and all is done.
class Queue {
 public:
  void push(Work work) {
    const std::lock_guard lock(mutex_);
    works_.push_back(std::move(work));
    ++pushed_;
    changed_.notify_all();
  }
  void close() {
    const std::lock_guard lock(mutex_);
    is_closed_ = true;
    changed_.notify_all();
  }
  void wait() {
    std::unique_lock lock(mutex_);
    const auto target = pushed_;
    changed_.wait(lock, [&] { return done_ >= target; });
  }
  [[nodiscard]] bool is_empty() {
    const std::lock_guard lock(mutex_);
    return done_ == pushed_;
  }

  void run() {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [this] { return is_closed_ || !works_.empty(); });
      if (works_.empty()) return;
      Work work = std::move(works_.front());
      works_.pop_front();
      lock.unlock();
      work();
      work = nullptr;
      lock.lock();
      ++done_;
      changed_.notify_all();
    }
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Work> works_;
  std::uint64_t pushed_ = 0;
  std::uint64_t done_ = 0;
  bool is_closed_ = false;
};

/// All queues of the process. Never destroyed: their threads use it to the end.
struct Queues {
  std::mutex mutex;
  std::set<std::shared_ptr<Queue>> all;

  static Queues& get() {
    static auto* const queues = new Queues;
    return *queues;
  }
};

std::shared_ptr<Queue> make_queue() {
  auto queue = std::make_shared<Queue>();
  auto& queues = Queues::get();
  const std::lock_guard lock(queues.mutex);
  queues.all.insert(queue);
  std::thread([queue] {
    queue->run();
    auto& all = Queues::get();
    const std::lock_guard own(all.mutex);
    all.all.erase(queue);
  }).detach();
  return queue;
}

/// What is destroyed with a graph, by a thread of its own, which must not call CUDA.
struct UserObjects {
  std::vector<std::pair<cudaHostFn_t, void*>> objects;

  UserObjects() = default;
  UserObjects(const UserObjects&) = delete;
  UserObjects& operator=(const UserObjects&) = delete;
  UserObjects(UserObjects&&) = delete;
  UserObjects& operator=(UserObjects&&) = delete;
  ~UserObjects() {
    std::thread([objects = objects] {
      const crossdock::emulator::Callback callback("the destructor of a graph's user object");
      for (const auto& [destroy, data] : objects) destroy(data);
    }).join();
  }
};

}  // namespace

/// Works in the order of their capture, which is one of the orders that their dependencies allow.
struct CUgraph_st {
  unsigned long long id = 0;
  std::vector<Work> works;
  std::shared_ptr<UserObjects> objects = std::make_shared<UserObjects>();
  std::shared_ptr<CUgraph_st> self;  ///< from the end of the capture to cudaGraphDestroy
};
struct CUgraphExec_st {
  std::shared_ptr<const CUgraph_st> graph;
};
struct CUstream_st {
  std::shared_ptr<Queue> queue = make_queue();
  std::shared_ptr<CUgraph_st> captured;
};
struct CUevent_st {
  std::shared_ptr<Mark> mark;
  std::shared_ptr<CUgraph_st> captured;  ///< recorded in it
};
struct CUuserObject_st {
  cudaHostFn_t destroy;
  void* data;
};

namespace {

CUstream_st& stream_of(cudaStream_t stream) {
  static auto* const of_null = new CUstream_st;
  return stream == nullptr || stream == cudaStreamLegacy || stream == cudaStreamPerThread ? *of_null : *stream;
}

void add(CUstream_st& stream, Work work) {
  if (stream.captured) {
    stream.captured->works.push_back(std::move(work));
  } else {
    stream.queue->push(std::move(work));
  }
}

// NOLINTNEXTLINE(cppcoreguidelines-avoid-non-const-global-variables)
std::mutex captures_mutex;
/// Streams that are captured into a graph.
// NOLINTNEXTLINE(cppcoreguidelines-avoid-non-const-global-variables)
std::vector<std::pair<CUgraph_st*, CUstream_st*>> captures;

void join_capture(CUstream_st& stream, const std::shared_ptr<CUgraph_st>& captured) {
  const std::lock_guard lock(captures_mutex);
  stream.captured = captured;
  captures.emplace_back(captured.get(), &stream);
}

}  // namespace

namespace crossdock::emulator {

void enqueue(cudaStream_t stream, Work work) { add(stream_of(stream), std::move(work)); }

void launch(cudaStream_t stream, const Shape& shape, Work body) {
  require_no_callback("a launch");
  enqueue(stream, [shape, body = std::move(body)] { run_kernel(shape, body); });
}

void synchronize_all() {
  std::vector<std::shared_ptr<Queue>> all;
  {
    auto& queues = Queues::get();
    const std::lock_guard lock(queues.mutex);
    all.assign(queues.all.begin(), queues.all.end());
  }
  for (const auto& queue : all) queue->wait();
}

}  // namespace crossdock::emulator

extern "C" {

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned int) {
  require_no_callback(__func__);
  *stream = new CUstream_st;
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned int flags, int) {
  return cudaStreamCreateWithFlags(stream, flags);
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  require_no_callback(__func__);
  stream->queue->close();
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  require_no_callback(__func__);
  if (stream_of(stream).captured) return cudaErrorStreamCaptureUnsupported;
  stream_of(stream).queue->wait();
  return cudaSuccess;
}
cudaError_t cudaStreamQuery(cudaStream_t stream) {
  require_no_callback(__func__);
  if (stream_of(stream).captured) return cudaErrorStreamCaptureUnsupported;
  return stream_of(stream).queue->is_empty() ? cudaSuccess : cudaErrorNotReady;
}
cudaError_t cudaDeviceSynchronize() {
  require_no_callback(__func__);
  crossdock::emulator::synchronize_all();
  return cudaSuccess;
}
cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
  require_no_callback(__func__);
  crossdock::emulator::enqueue(stream, [function, data] {
    const crossdock::emulator::Callback callback("a host function");
    function(data);
  });
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned int) {
  require_no_callback(__func__);
  *event = new CUevent_st;
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, 0); }
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  require_no_callback(__func__);
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned int flags) {
  require_no_callback(__func__);
  CUstream_st& of = stream_of(stream);
  event->captured = nullptr;
  if (of.captured && (flags & cudaEventRecordExternal) == 0) {
    event->captured = of.captured;
    return cudaSuccess;
  }
  if (of.captured) {
    add(of, [event] {  // each launch records it anew
      event->mark = std::make_shared<Mark>();
      event->mark->set();
    });
    return cudaSuccess;
  }
  auto mark = std::make_shared<Mark>();
  event->mark = mark;
  add(of, [mark] { mark->set(); });
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  return cudaEventRecordWithFlags(event, stream, 0);
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned int) {
  require_no_callback(__func__);
  CUstream_st& of = stream_of(stream);
  if (event->captured) {
    if (of.captured != event->captured) join_capture(of, event->captured);
    return cudaSuccess;
  }
  if (event->mark) add(of, [mark = event->mark] { mark->wait(); });
  return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  require_no_callback(__func__);
  return event->mark && !event->mark->is_set() ? cudaErrorNotReady : cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  require_no_callback(__func__);
  if (event->mark) event->mark->wait();
  return cudaSuccess;
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  require_no_callback(__func__);
  if (!start->mark || !end->mark) return cudaErrorInvalidResourceHandle;
  *milliseconds = std::chrono::duration<float, std::milli>(end->mark->time() - start->mark->time()).count();
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  require_no_callback(__func__);
  static std::atomic<unsigned long long> last_id = 0;
  if (stream == nullptr) return cudaErrorStreamCaptureUnsupported;
  auto captured = std::make_shared<CUgraph_st>();
  captured->id = ++last_id;
  join_capture(*stream, captured);
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  require_no_callback(__func__);
  const auto captured = stream->captured;
  *graph = nullptr;
  if (!captured) return cudaErrorIllegalState;
  const std::lock_guard lock(captures_mutex);
  std::erase_if(captures, [&](const auto& entry) {
    if (entry.first != captured.get()) return false;
    entry.second->captured = nullptr;
    return true;
  });
  captured->self = captured;
  *graph = captured.get();
  return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  require_no_callback(__func__);
  *status = stream_of(stream).captured ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
cudaError_t cudaStreamGetCaptureInfo(cudaStream_t stream, cudaStreamCaptureStatus* status, unsigned long long* id,
                                     cudaGraph_t* graph, const cudaGraphNode_t**, const cudaGraphEdgeData**, size_t*) {
  const auto& captured = stream_of(stream).captured;
  if (captured && id != nullptr) *id = captured->id;
  if (captured && graph != nullptr) *graph = captured.get();
  return cudaStreamIsCapturing(stream, status);
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  require_no_callback(__func__);
  *executable = new CUgraphExec_st{graph->self};
  return cudaSuccess;
}
cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) {
  require_no_callback(__func__);
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  require_no_callback(__func__);
  crossdock::emulator::enqueue(stream, [graph = executable->graph] {
    for (const Work& work : graph->works) work();
  });
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  require_no_callback(__func__);
  graph->self = nullptr;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  require_no_callback(__func__);
  delete executable;
  return cudaSuccess;
}
cudaError_t cudaUserObjectCreate(cudaUserObject_t* object, void* data, cudaHostFn_t destroy, unsigned int,
                                 unsigned int) {
  require_no_callback(__func__);
  *object = new CUuserObject_st{destroy, data};
  return cudaSuccess;
}
cudaError_t cudaGraphRetainUserObject(cudaGraph_t graph, cudaUserObject_t object, unsigned int, unsigned int) {
  require_no_callback(__func__);
  graph->objects->objects.emplace_back(object->destroy, object->data);
  delete object;
  return cudaSuccess;
}

}  // extern "C"
