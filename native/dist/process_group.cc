#include "dist/process_group.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <pthread.h>
#include <signal.h>
#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <algorithm>
#include <map>
#include <mutex>
#include <utility>

#include "core/error.h"
#include "dist/backend.h"

namespace fornax {

namespace {

using Work = c10::intrusive_ptr<c10d::Work>;

// How soon an interruption is noticed.
constexpr std::chrono::milliseconds kGlance(200);
// With which others wait for the text of rank 0: it may be decoding images or evaluating.
constexpr std::chrono::hours kPatience(24 * 7);

std::mutex registry_mutex;
std::map<int64_t, std::weak_ptr<ProcessGroup>>& registry() {
  static auto* groups = new std::map<int64_t, std::weak_ptr<ProcessGroup>>;  // outlives every thread
  return *groups;
}

std::string firstLine(const std::string& text) {
  return text.substr(0, text.find('\n'));
}

// Signals belong to Node's threads, and a thread inherits the mask of its maker.
class BlockSignals {
 public:
  BlockSignals() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~BlockSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
};

}  // namespace

struct ProcessGroup::Backends {
  c10::intrusive_ptr<c10d::Store> store;
  c10::intrusive_ptr<c10d::Backend> host;    // Gloo
  c10::intrusive_ptr<c10d::Backend> device;  // NCCL, or the same
  std::atomic<bool> abandoned{false};        // somebody stopped waiting for a collective

  // Gloo's destructor waits for collectives under way, which an absent process never ends.
  void abandon() {
    host.release();
    device.release();
    store.release();
  }

  c10d::Backend& of(const at::Tensor& tensor) { return tensor.is_cpu() ? *host : *device; }

  // Gloo's own wait knows no interruption: it is asked again and again, which costs nothing while it sleeps.
  void await(const Work& work, const std::atomic<bool>& interrupted) {
    while (!work->isCompleted()) {
      if (interrupted) {
        abandoned = true;
        throw Error(ErrorKind::Aborted, "stopped while waiting for the other processes", "ProcessGroup");
      }
      try {
        work->wait(kGlance);
        return;
      } catch (const std::exception&) {
        // Too early, or it failed: then it is completed, and says so below.
      }
    }
    work->wait();
  }
};

std::shared_ptr<ProcessGroup> ProcessGroup::connect(const ProcessGroupOptions& options) {
  if (options.size < 1 || options.rank < 0 || options.rank >= options.size) {
    throw Error(ErrorKind::Argument,
                "rank " + std::to_string(options.rank) + " of " + std::to_string(options.size) +
                    " processes: ranks count from 0",
                "ProcessGroup", "check RANK and WORLD_SIZE");
  }
  std::shared_ptr<ProcessGroup> group(new ProcessGroup(options));
  const std::lock_guard lock(registry_mutex);
  registry()[group->id_] = group;
  return group;
}

std::shared_ptr<ProcessGroup> ProcessGroup::find(int64_t id) {
  const std::lock_guard lock(registry_mutex);
  const auto found = registry().find(id);
  return found == registry().end() ? nullptr : found->second.lock();
}

ProcessGroup::ProcessGroup(const ProcessGroupOptions& options)
    : options_(options),
      id_([] {
        static std::atomic<int64_t> last{0};
        return ++last;
      }()),
      backends_(std::make_unique<Backends>()) {
  const BlockSignals block;
  try {
    c10d::TCPStoreOptions store;
    store.port = static_cast<uint16_t>(options.port);
    store.isServer = options.server;
    store.waitWorkers = false;
    store.timeout = options.timeout;
    store.useLibUV = false;  // libtorch's libuv and Node's have the same names
    backends_->store = c10::make_intrusive<c10d::PrefixStore>(
        options.prefix, c10::make_intrusive<c10d::TCPStore>(options.host, store));
    const auto part = [&](const char* name) {
      return c10::make_intrusive<c10d::PrefixStore>(name, backends_->store);
    };
    backends_->host = openGloo(part("gloo"), options.rank, options.size, options.interface, options.timeout);
    backends_->device = backends_->host;
#ifdef FORNAX_CUDA
    if (options.device.is_cuda()) {
      backends_->device = openNccl(part("nccl"), options.rank, options.size, options.device, options.timeout);
    }
#endif
  } catch (const std::exception& error) {
    throw Error(ErrorKind::Train,
                "rank " + std::to_string(options.rank) + " of " + std::to_string(options.size) +
                    " cannot reach the other processes: " + firstLine(error.what()),
                options.host + ":" + std::to_string(options.port),
                "check MASTER_ADDR and MASTER_PORT, and that all processes have been started");
  }
}

ProcessGroup::~ProcessGroup() {
  if (backends_->abandoned) backends_->abandon();
  const std::lock_guard lock(registry_mutex);
  registry().erase(id_);
}

void ProcessGroup::lost(const std::string& message) const {
  backends_->abandoned = true;
  if (message.find("imed out") != std::string::npos) {
    throw Error(
        ErrorKind::Train,
        "another process of this training has not answered for " +
            std::to_string(std::chrono::duration_cast<std::chrono::seconds>(options_.timeout).count()) + " s",
        "rank " + std::to_string(options_.rank) + " of " + std::to_string(options_.size),
        "see the logs of the other ranks, and go on with --resume; where processes may be busy for longer, "
        "raise dist.timeout");
  }
  throw Error(ErrorKind::Train,
              "the connection to another process of this training broke: " + firstLine(message),
              "rank " + std::to_string(options_.rank) + " of " + std::to_string(options_.size),
              "the process that ended first says why: see the logs of the other ranks");
}

std::function<void()> ProcessGroup::startSum(const at::Tensor& tensor) {
  Work work;
  try {
    std::vector<at::Tensor> tensors{tensor};
    work = backends_->of(tensor).allreduce(tensors);
  } catch (const std::exception& error) {
    lost(error.what());
  }
  return [this, work, tensor] {
    try {
      if (tensor.is_cpu()) {
        backends_->await(work, interrupted_);
      } else {
        work->wait();  // of the stream, not of the host
      }
    } catch (const Error&) {
      throw;
    } catch (const std::exception& error) {
      lost(error.what());
    }
  };
}

bool ProcessGroup::any(bool mine) {
  const at::Tensor flag = at::full({1}, mine ? 1 : 0, at::kInt);
  sum(flag);
  return flag.item<int>() > 0;
}

void ProcessGroup::broadcast(const at::Tensor& tensor) {
  if (tensor.numel() == 0) return;
  const c10::NoGradGuard no_grad;
  // As bytes in logical order: any dtype, any memory format.
  at::Tensor values = tensor.detach().contiguous().reshape(-1).clone();
  std::vector<at::Tensor> bytes{values.view(at::kByte)};
  try {
    const Work work = backends_->of(tensor).broadcast(bytes);
    if (tensor.is_cpu()) {
      backends_->await(work, interrupted_);
    } else {
      work->wait();
    }
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    lost(error.what());
  }
  if (rank() != 0) tensor.detach().copy_(values.view(tensor.sizes()));
}

std::vector<std::string> ProcessGroup::gather(const std::string& text) {
  const auto everyone = [&](const at::Tensor& mine) {
    std::vector<std::vector<at::Tensor>> outputs(1);
    for (int i = 0; i < size(); ++i) outputs[0].push_back(at::empty_like(mine));
    std::vector<at::Tensor> inputs{mine};
    c10d::AllgatherOptions options;
    options.timeout = rank() == 0 ? options_.timeout : kPatience;
    backends_->await(backends_->host->allgather(outputs, inputs, options), interrupted_);
    return outputs[0];
  };
  try {
    const int64_t length = static_cast<int64_t>(text.size());
    std::vector<int64_t> lengths;
    for (const at::Tensor& of_one : everyone(at::full({1}, length, at::kLong))) {
      lengths.push_back(of_one.item<int64_t>());
    }
    const int64_t longest = *std::max_element(lengths.begin(), lengths.end());
    std::vector<std::string> texts(lengths.size());
    if (longest == 0) return texts;
    at::Tensor mine = at::zeros({longest}, at::kByte);
    std::copy(text.begin(), text.end(), mine.mutable_data_ptr<uint8_t>());
    const std::vector<at::Tensor> all = everyone(mine);
    for (size_t i = 0; i < all.size(); ++i) {
      texts[i].assign(reinterpret_cast<const char*>(all[i].const_data_ptr<uint8_t>()), lengths[i]);
    }
    return texts;
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    lost(error.what());
  }
}

}  // namespace fornax
