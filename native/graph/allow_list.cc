#include "graph/allow_list.h"

#include <string_view>
#include <unordered_set>

namespace fornax {

namespace {

// Overloads that write into an argument (`add.out`, `max.dim_max`) are refused by their schema, see graph.cc.
const std::unordered_set<std::string_view>& allowed() {
  static const std::unordered_set<std::string_view> names = {
      // convolution and linear algebra
      "aten::conv1d", "aten::conv2d", "aten::conv3d", "aten::convolution", "aten::conv_transpose1d",
      "aten::conv_transpose2d", "aten::conv_transpose3d", "aten::linear", "aten::matmul", "aten::mm", "aten::bmm",
      "aten::addmm", "aten::baddbmm", "aten::einsum", "aten::scaled_dot_product_attention", "aten::grid_sampler",
      "aten::grid_sampler_2d", "aten::affine_grid_generator",
      // normalisation and regularisation
      "aten::layer_norm", "aten::group_norm", "aten::instance_norm", "aten::batch_norm", "aten::linalg_vector_norm",
      "fornax::batch_norm", "fornax::dropout", "fornax::feature_dropout", "fornax::stochastic_depth",
      "fornax::normalize", "aten::embedding",
      // activations
      "aten::relu", "aten::relu6", "aten::leaky_relu", "aten::silu", "aten::gelu", "aten::hardswish",
      "aten::hardsigmoid", "aten::hardtanh", "aten::sigmoid", "aten::tanh", "aten::softmax", "aten::log_softmax",
      "aten::elu", "aten::selu", "aten::celu", "aten::mish", "aten::softplus", "aten::softsign", "aten::prelu",
      "aten::log_sigmoid", "aten::threshold", "aten::glu",
      // pooling and resampling
      "aten::max_pool2d", "aten::max_pool2d_with_indices", "aten::avg_pool2d", "aten::adaptive_avg_pool2d",
      "aten::adaptive_max_pool2d", "aten::upsample_nearest2d", "aten::_upsample_nearest_exact2d",
      "aten::upsample_bilinear2d", "aten::upsample_bicubic2d", "aten::_upsample_bilinear2d_aa",
      "aten::_upsample_bicubic2d_aa", "aten::pad",
      "aten::constant_pad_nd", "aten::reflection_pad2d", "aten::replication_pad2d", "aten::pixel_shuffle",
      "aten::pixel_unshuffle", "aten::channel_shuffle", "aten::im2col", "aten::col2im", "aten::lp_pool2d",
      // arithmetic
      "aten::add", "aten::sub", "aten::rsub", "aten::mul", "aten::div", "aten::floor_divide", "aten::remainder",
      "aten::pow", "aten::neg", "aten::exp", "aten::expm1", "aten::log", "aten::log1p", "aten::log2", "aten::sqrt",
      "aten::rsqrt", "aten::square", "aten::abs", "aten::sign", "aten::sin", "aten::cos", "aten::tan", "aten::atan",
      "aten::atan2", "aten::erf", "aten::reciprocal", "aten::floor", "aten::ceil", "aten::round", "aten::trunc",
      "aten::clamp", "aten::clamp_min", "aten::clamp_max", "aten::maximum", "aten::minimum", "aten::lerp",
      "aten::addcmul", "aten::addcdiv", "aten::where", "aten::eq", "aten::ne", "aten::lt", "aten::le", "aten::gt",
      "aten::ge", "aten::logical_and", "aten::logical_or", "aten::logical_not", "aten::bitwise_and",
      "aten::bitwise_or", "aten::bitwise_not", "aten::isnan", "aten::isfinite", "aten::nan_to_num",
      "aten::masked_fill",
      // reductions
      "aten::sum", "aten::mean", "aten::var", "aten::std", "aten::var_mean", "aten::amax", "aten::amin", "aten::max",
      "aten::min", "aten::argmax", "aten::argmin", "aten::prod", "aten::logsumexp", "aten::norm", "aten::cumsum",
      "aten::topk", "aten::sort", "aten::any", "aten::all", "aten::count_nonzero",
      // shape and indexing
      "aten::reshape", "aten::view", "aten::flatten", "aten::unflatten", "aten::permute", "aten::transpose",
      "aten::t", "aten::squeeze", "aten::unsqueeze", "aten::expand", "aten::expand_as", "aten::repeat",
      "aten::repeat_interleave", "aten::cat", "aten::stack", "aten::chunk", "aten::split", "aten::split_with_sizes",
      "aten::tensor_split", "aten::unbind", "aten::select", "aten::slice", "aten::narrow", "aten::index",
      "aten::index_select", "aten::gather", "aten::scatter", "aten::scatter_add", "aten::roll", "aten::flip",
      "aten::tril", "aten::triu", "aten::one_hot", "aten::contiguous", "aten::clone", "aten::detach", "aten::alias",
      "aten::movedim", "aten::meshgrid", "aten::diagonal",
      // creation and conversion
      "aten::zeros", "aten::ones", "aten::full", "aten::zeros_like", "aten::ones_like", "aten::full_like",
      "aten::new_zeros", "aten::new_ones", "aten::new_full", "aten::arange", "aten::linspace", "aten::to",
      "aten::type_as", "aten::_to_copy", "aten::scalar_tensor",
      // losses
      "aten::cross_entropy_loss", "aten::nll_loss", "aten::nll_loss_nd", "aten::binary_cross_entropy",
      "aten::binary_cross_entropy_with_logits", "aten::mse_loss", "aten::l1_loss", "aten::smooth_l1_loss",
      "aten::huber_loss", "aten::kl_div",
  };
  return names;
}

}  // namespace

bool isAllowedInFiles(const std::string& name) {
  return allowed().count(std::string_view(name).substr(0, name.find('.'))) != 0;
}

}  // namespace fornax
