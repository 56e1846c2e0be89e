// Sums gradients over processes while backward is still computing the rest (Li et al. 2020, "PyTorch
// Distributed", section 3.2.3). Parameters are put into buckets in the reverse of their order, which is about
// the order in which their gradients come; a full bucket starts on its way at once. c10d's own Reducer does
// the same, but wants a ProcessGroup with its Python companions and gradients that are views of its buckets;
// ours are freed before every step. Used on the thread that calls backward, and on autograd's.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "dist/process_group.h"

namespace fornax {

class GradientReducer {
 public:
  // The parameters and their order must be the same in all processes.
  GradientReducer(std::shared_ptr<ProcessGroup> group, std::vector<at::Tensor> parameters);
  ~GradientReducer();
  GradientReducer(const GradientReducer&) = delete;
  GradientReducer& operator=(const GradientReducer&) = delete;

  // The next backward is the last one of the step: its gradients are final.
  void arm();
  // Sends what is not on its way yet and waits until every gradient is the sum over all processes. A
  // parameter without a gradient counts as zero, and has none afterwards either.
  void finish();
  // Forgets a step that failed.
  void reset();

 private:
  struct Bucket {
    std::vector<size_t> members;  // into parameters_
    int64_t elements = 0;
    size_t missing = 0;  // gradients that have not come in this backward
    at::Tensor values;   // on their way
    std::function<void()> wait;
  };

  void gradientReady(size_t parameter);
  void launch(Bucket& bucket);

  std::shared_ptr<ProcessGroup> group_;
  std::vector<at::Tensor> parameters_;
  std::vector<size_t> bucket_of_;
  std::vector<Bucket> buckets_;
  size_t next_ = 0;  // buckets leave in their order, the same in all processes
  bool armed_ = false;
};

}  // namespace fornax
