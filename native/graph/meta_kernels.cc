#include "graph/meta_kernels.h"

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/jit_type.h>
#include <dlfcn.h>
#include <torch/library.h>

#include <mutex>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

namespace fornax {

namespace {

// Output length of one dimension, as documented for torch.nn.Conv2d and ConvTranspose2d.
int64_t convolvedLength(int64_t in, int64_t kernel, int64_t stride, int64_t padding, int64_t dilation,
                        bool transposed, int64_t output_padding) {
  if (transposed) return (in - 1) * stride - 2 * padding + dilation * (kernel - 1) + output_padding + 1;
  return (in + 2 * padding - dilation * (kernel - 1) - 1) / stride + 1;
}

// aten::conv* arrive here from convolution(), which has checked what is checked without running.
at::Tensor convolution(const at::Tensor& x, const at::Tensor& weight,
                       const std::optional<at::Tensor>& /*bias*/, c10::SymIntArrayRef stride_,
                       c10::SymIntArrayRef padding_, c10::SymIntArrayRef dilation_, bool transposed,
                       c10::SymIntArrayRef output_padding_, c10::SymInt groups_) {
  at::IntArrayRef stride = C10_AS_INTARRAYREF_SLOW(stride_), padding = C10_AS_INTARRAYREF_SLOW(padding_),
                  dilation = C10_AS_INTARRAYREF_SLOW(dilation_),
                  output_padding = C10_AS_INTARRAYREF_SLOW(output_padding_);
  int64_t groups = groups_.expect_int();
  TORCH_CHECK(x.dim() == weight.dim() && x.dim() >= 3, "convolution of ", x.sizes(), " with a weight ",
              weight.sizes());
  size_t spatial = static_cast<size_t>(x.dim()) - 2;
  TORCH_CHECK(stride.size() == spatial && padding.size() == spatial && dilation.size() == spatial &&
                  output_padding.size() == spatial,
              "convolution needs ", spatial, " values each for stride, padding and dilation");
  int64_t channels = transposed ? weight.size(0) : weight.size(1) * groups;
  TORCH_CHECK(x.size(1) == channels, "the weight ", weight.sizes(), " expects ", channels, " channels, got ",
              x.sizes());
  std::vector<int64_t> shape{x.size(0), transposed ? weight.size(1) * groups : weight.size(0)};
  for (size_t i = 0; i < spatial; ++i) {
    int64_t dim = static_cast<int64_t>(i) + 2;
    TORCH_CHECK(stride[i] > 0 && dilation[i] > 0, "stride and dilation must be positive");
    int64_t length = convolvedLength(x.size(dim), weight.size(dim), stride[i], padding[i], dilation[i],
                                     transposed, output_padding[i]);
    TORCH_CHECK(length > 0, "the kernel ", weight.sizes(), " does not fit into the input ", x.sizes());
    shape.push_back(length);
  }
  return at::empty(shape, x.options());
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> batchNorm(
    const at::Tensor& x, const std::optional<at::Tensor>&, const std::optional<at::Tensor>&,
    const std::optional<at::Tensor>&, const std::optional<at::Tensor>&, bool training, double, double) {
  at::Tensor statistics = at::empty({training ? x.size(1) : 0}, x.options());
  return {at::empty_like(x), statistics, at::empty_like(statistics)};
}

at::Tensor adaptiveAvgPool2d(const at::Tensor& x, c10::SymIntArrayRef output_size) {
  TORCH_CHECK(x.dim() == 3 || x.dim() == 4, "adaptive pooling takes [N, C, H, W] or [C, H, W], got ",
              x.sizes());
  std::vector<int64_t> shape = x.sizes().vec();
  shape[shape.size() - 2] = output_size[0].expect_int();
  shape[shape.size() - 1] = output_size[1].expect_int();
  return at::empty(shape, x.options());
}

at::Tensor unary(const at::Tensor& x) {
  return at::empty_like(x);
}
at::Tensor hardtanh(const at::Tensor& x, const at::Scalar&, const at::Scalar&) {
  return at::empty_like(x);
}

// ---- everything else

at::Tensor zerosOnCpu(const at::Tensor& meta, bool written) {
  auto options = meta.options().device(c10::kCPU);
  if (written) return at::zeros(meta.sizes(), options);
  return at::zeros({}, options).expand(meta.sizes());  // one element of memory
}

c10::IValue onCpu(const c10::IValue& value, bool written) {
  if (value.isTensor()) {
    const at::Tensor& tensor = value.toTensor();
    return tensor.defined() && tensor.is_meta() ? c10::IValue(zerosOnCpu(tensor, written)) : value;
  }
  if (value.isTensorList()) {
    c10::List<at::Tensor> list;
    for (const at::Tensor& tensor : value.toTensorVector()) list.push_back(zerosOnCpu(tensor, written));
    return list;
  }
  if (value.isOptionalTensorList()) {
    c10::List<std::optional<at::Tensor>> list;
    for (const std::optional<at::Tensor>& tensor : value.toOptionalTensorVector()) {
      list.push_back(tensor && tensor->defined() ? std::optional<at::Tensor>(zerosOnCpu(*tensor, written))
                                                 : tensor);
    }
    return list;
  }
  if (value.isDevice() && value.toDevice().is_meta()) return c10::Device(c10::kCPU);
  return value;
}

at::Tensor onMeta(const at::Tensor& tensor) {
  if (!tensor.defined()) return tensor;
  return at::empty_strided(tensor.sizes(), tensor.strides(), tensor.options().device(c10::kMeta));
}

bool writes(const c10::AliasInfo* alias) {
  return alias != nullptr && alias->isWrite();
}

// The argument that a result like Tensor(a!) is, or -1.
int writtenArgument(const c10::FunctionSchema& schema, const c10::Argument& result) {
  if (!writes(result.alias_info())) return -1;
  const auto& arguments = schema.arguments();
  for (size_t i = 0; i < arguments.size(); ++i) {
    if (writes(arguments[i].alias_info()) &&
        arguments[i].alias_info()->beforeSets() == result.alias_info()->beforeSets()) {
      return static_cast<int>(i);
    }
  }
  return -1;
}

void runOnCpu(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const c10::FunctionSchema& schema = op.schema();
  size_t count = schema.arguments().size();
  std::vector<c10::IValue> given(stack->end() - static_cast<ptrdiff_t>(count), stack->end());
  stack->resize(stack->size() - count);
  torch::jit::Stack local;
  for (size_t i = 0; i < count; ++i) {
    local.push_back(onCpu(given[i], writes(schema.arguments()[i].alias_info())));
  }
  op.callBoxed(local);
  for (size_t i = 0; i < local.size(); ++i) {
    const c10::IValue& result = local[i];
    int argument = writtenArgument(schema, schema.returns()[i]);
    if (result.isTensor() && argument >= 0) {
      at::Tensor target = given[static_cast<size_t>(argument)].toTensor();
      if (target.sizes() != result.toTensor().sizes()) target.resize_(result.toTensor().sizes());
      stack->emplace_back(std::move(target));
    } else if (result.isTensor()) {
      stack->emplace_back(onMeta(result.toTensor()));
    } else if (result.isTensorList()) {
      c10::List<at::Tensor> list;
      for (const at::Tensor& tensor : result.toTensorVector()) list.push_back(onMeta(tensor));
      stack->emplace_back(std::move(list));
    } else {
      stack->push_back(result);
    }
  }
}

bool missing(const c10::OperatorHandle& op) {
  for (auto key : {c10::DispatchKey::Meta, c10::DispatchKey::CompositeExplicitAutograd,
                   c10::DispatchKey::CompositeExplicitAutogradNonFunctional,
                   c10::DispatchKey::CompositeImplicitAutograd}) {
    if (op.hasKernelForDispatchKey(key)) return false;
  }
  return op.hasKernelForDispatchKey(c10::DispatchKey::CPU);
}

void registerAll(torch::Library& library) {
  auto& dispatcher = c10::Dispatcher::singleton();
  auto lacks = [&](const char* name) {
    auto op = dispatcher.findSchema({std::string("aten::") + name, ""});
    return op && !op->hasKernelForDispatchKey(c10::DispatchKey::Meta);
  };
  if (lacks("convolution_overrideable")) library.impl("convolution_overrideable", convolution);
  if (lacks("native_batch_norm")) library.impl("native_batch_norm", batchNorm);
  if (lacks("_adaptive_avg_pool2d")) library.impl("_adaptive_avg_pool2d", adaptiveAvgPool2d);
  if (lacks("hardtanh")) library.impl("hardtanh", hardtanh);
  for (const char* name : {"relu", "hardswish"}) {
    if (lacks(name)) library.impl(name, unary);
  }
  for (const c10::OperatorName& name : dispatcher.getAllOpNames()) {
    if (name.name.rfind("aten::", 0) != 0) continue;
    auto op = dispatcher.findSchema(name);
    if (!op || !missing(*op)) continue;
    std::string full = name.overload_name.empty() ? name.name : name.name + "." + name.overload_name;
    library.impl(full.c_str(), torch::CppFunction::makeFromBoxedFunction<&runOnCpu>());
  }
}

// Keeps this library in memory for good. Node unloads an addon with the last environment that uses it, such
// as a worker thread's, and the dispatcher would hold kernels whose code is gone.
void stayLoaded() {
  Dl_info library;
  if (dladdr(reinterpret_cast<void*>(&stayLoaded), &library) != 0) {
    dlopen(library.dli_fname, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
  }
}

}  // namespace

void registerMetaKernels() {
  static std::once_flag once;
  std::call_once(once, [] {
    stayLoaded();
    // Never destroyed: unregistering while another thread infers shapes, or at exit, would be worse.
    static auto* library =
        new torch::Library(torch::Library::IMPL, "aten", c10::DispatchKey::Meta, __FILE__, __LINE__);
    registerAll(*library);
  });
}

}  // namespace fornax
