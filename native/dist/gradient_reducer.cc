#include "dist/gradient_reducer.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

#include <utility>

namespace fornax {

namespace {

// Large enough for the bandwidth, small enough to overlap; the first one small, so that the wire is busy
// early.
constexpr int64_t kFirstBucketBytes = 1 << 20;
constexpr int64_t kBucketBytes = 25 << 20;

class WhenAccumulated : public torch::autograd::PostAccumulateGradHook {
 public:
  explicit WhenAccumulated(std::function<void()> then) : then_(std::move(then)) {}
  void operator()(const torch::autograd::Variable&) override { then_(); }

 private:
  std::function<void()> then_;
};

}  // namespace

GradientReducer::GradientReducer(std::shared_ptr<ProcessGroup> group, std::vector<at::Tensor> parameters)
    : group_(std::move(group)), parameters_(std::move(parameters)), bucket_of_(parameters_.size()) {
  int64_t bytes = 0;
  for (size_t i = parameters_.size(); i-- > 0;) {
    const at::Tensor& parameter = parameters_[i];
    const int64_t size = parameter.numel() * parameter.element_size();
    const int64_t limit = buckets_.size() <= 1 ? kFirstBucketBytes : kBucketBytes;
    if (buckets_.empty() || bytes + size > limit ||
        parameters_[buckets_.back().members[0]].scalar_type() != parameter.scalar_type()) {
      buckets_.emplace_back();
      bytes = 0;
    }
    buckets_.back().members.push_back(i);
    buckets_.back().elements += parameter.numel();
    bucket_of_[i] = buckets_.size() - 1;
    bytes += size;
  }
  for (size_t i = 0; i < parameters_.size(); ++i) {
    torch::autograd::impl::set_post_acc_grad_hooks(
        parameters_[i], std::make_unique<WhenAccumulated>([this, i] { gradientReady(i); }));
  }
}

GradientReducer::~GradientReducer() {
  for (at::Tensor& parameter : parameters_) {
    torch::autograd::impl::set_post_acc_grad_hooks(parameter, nullptr);
  }
}

void GradientReducer::reset() {
  armed_ = false;
  next_ = 0;
  for (Bucket& bucket : buckets_) {
    bucket.missing = bucket.members.size();
    bucket.values = at::Tensor();
    bucket.wait = nullptr;
  }
}

void GradientReducer::arm() {
  reset();
  armed_ = true;
}

void GradientReducer::gradientReady(size_t parameter) {
  if (!armed_) return;
  Bucket& bucket = buckets_[bucket_of_[parameter]];
  if (bucket.missing > 0) --bucket.missing;
  while (next_ < buckets_.size() && buckets_[next_].missing == 0) launch(buckets_[next_++]);
}

void GradientReducer::launch(Bucket& bucket) {
  const c10::NoGradGuard no_grad;
  bucket.values = at::empty({bucket.elements}, parameters_[bucket.members[0]].options());
  int64_t begin = 0;
  for (const size_t member : bucket.members) {
    const at::Tensor& parameter = parameters_[member];
    at::Tensor place = bucket.values.narrow(0, begin, parameter.numel());
    const at::Tensor& gradient = parameter.grad();
    if (gradient.defined()) {
      place.view(parameter.sizes()).copy_(gradient);
    } else {
      place.zero_();
    }
    begin += parameter.numel();
  }
  bucket.wait = group_->startSum(bucket.values);
}

void GradientReducer::finish() {
  if (!armed_) reset();
  while (next_ < buckets_.size()) launch(buckets_[next_++]);
  const c10::NoGradGuard no_grad;
  for (Bucket& bucket : buckets_) {
    bucket.wait();
    int64_t begin = 0;
    for (const size_t member : bucket.members) {
      const at::Tensor& parameter = parameters_[member];
      const at::Tensor& gradient = parameter.grad();
      if (gradient.defined()) {
        gradient.copy_(bucket.values.narrow(0, begin, parameter.numel()).view(parameter.sizes()));
      }
      begin += parameter.numel();
    }
  }
  reset();
}

}  // namespace fornax
