// A pretended accelerator: a device of its own for torch whose memory is the host's and whose kernels are the CPU's.
// It refuses what a GPU refuses: tensors of two devices in one operation, the generator of another device, and being
// read by NumPy. What runs on it touches no tensor of the host by mistake.
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

#include <cstdlib>
#include <set>

namespace {

using at::Tensor;
using c10::DeviceType;
constexpr auto kind = DeviceType::PrivateUse1;
const c10::Device here(kind, 0);
constexpr c10::DispatchKeySet keys(c10::DispatchKey::PrivateUse1);

struct Memory final : c10::Allocator {
  c10::DataPtr allocate(size_t n) override {
    void* p = n ? std::malloc(n) : nullptr;
    return {p, p, &std::free, here};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &std::free; }
  void copy_data(void* to, const void* from, size_t n) const override { default_copy_data(to, from, n); }
};
Memory memory;
REGISTER_ALLOCATOR(kind, &memory);

struct Guard final : c10::impl::DeviceGuardImplInterface {
  DeviceType type() const override { return kind; }
  c10::Device exchangeDevice(c10::Device) const override { return here; }
  c10::Device getDevice() const override { return here; }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::Stream getStream(c10::Device) const override { return c10::Stream(c10::Stream::DEFAULT, here); }
  c10::Stream exchangeStream(c10::Stream s) const override { return s; }
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);

// A generator that says it is of this device; the one within makes the numbers.
struct Numbers final : at::CPUGeneratorImpl {
  Numbers() : inner(at::make_generator<at::CPUGeneratorImpl>(c10::default_rng_seed_val)) { device_ = here; }
  void set_current_seed(uint64_t s) override { inner.set_current_seed(s); }
  uint64_t current_seed() const override { return inner.current_seed(); }
  uint64_t seed() override { return inner.seed(); }
  at::Generator inner;
};

struct Hooks final : at::PrivateUse1HooksInterface {
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  void init() const override {}
  const at::Generator& getDefaultGenerator(c10::DeviceIndex) const override {
    static auto one = at::make_generator<Numbers>();
    return one;
  }
  at::Generator getNewGenerator(c10::DeviceIndex) const override { return at::make_generator<Numbers>(); }
};

Tensor wrap(c10::Storage storage, const Tensor& like) {
  auto out = at::detail::make_tensor<c10::TensorImpl>(
      std::move(storage), c10::DispatchKeySet({c10::DispatchKey::PrivateUse1, c10::DispatchKey::AutogradPrivateUse1}),
      like.dtype());
  out.unsafeGetTensorImpl()->set_sizes_and_strides(like.sizes(), like.strides(), like.storage_offset());
  return out;
}

Tensor view(const Tensor& base, const Tensor& like) {  // one of an ordinary tensor is one in inference mode too
  auto out = at::detail::make_tensor<c10::TensorImpl>(c10::TensorImpl::VIEW, c10::Storage(base.storage()),
                                                      base.key_set(), like.dtype());
  out.unsafeGetTensorImpl()->set_sizes_and_strides(like.sizes(), like.strides(), like.storage_offset());
  return out;
}

c10::Storage moved(const Tensor& t) {  // the storage of a CPU tensor, said to be of this device
  auto* keep = new c10::Storage(t.storage());
  c10::DataPtr p(const_cast<void*>(keep->data()), keep, [](void* k) { delete static_cast<c10::Storage*>(k); }, here);
  return c10::Storage(c10::Storage::use_byte_size_t(), t.storage().nbytes(), std::move(p), &memory, true);
}

Tensor on_cpu(const Tensor& t) {  // the same memory, said to be the CPU's
  auto* keep = new c10::Storage(t.storage());
  c10::DataPtr p(const_cast<void*>(keep->data()), keep, [](void* k) { delete static_cast<c10::Storage*>(k); },
                 c10::Device(c10::kCPU));
  c10::Storage s(c10::Storage::use_byte_size_t(), t.storage().nbytes(), std::move(p), c10::GetAllocator(c10::kCPU),
                 true);
  auto out = at::detail::make_tensor<c10::TensorImpl>(std::move(s), c10::DispatchKeySet(c10::DispatchKey::CPU),
                                                      t.dtype());
  out.unsafeGetTensorImpl()->set_sizes_and_strides(t.sizes(), t.strides(), t.storage_offset());
  if (t.is_conj()) out._set_conj(true);
  if (t.is_neg()) out._set_neg(true);
  return out;
}

struct Seen { Tensor had, cpu; };

Tensor enter(const Tensor& t, std::vector<Seen>& seen, bool& stranger) {
  if (!t.defined()) return t;
  if (t.device().type() != kind) {
    stranger |= t.dim() > 0;
    return t;
  }
  for (auto& s : seen) if (s.had.is_same(t)) return s.cpu;
  seen.push_back({t, on_cpu(t)});
  return seen.back().cpu;
}

Tensor leave(const Tensor& r, std::vector<Seen>& seen) {
  if (!r.defined()) return r;
  for (auto& s : seen) if (s.cpu.is_same(r)) return s.had;
  for (auto& s : seen)
    if (r.has_storage() && s.cpu.storage().unsafeGetStorageImpl() == r.storage().unsafeGetStorageImpl())
      return view(s.had, r);
  return wrap(moved(r), r);
}

// Indices may be on the host where what is indexed is not.
const std::set<std::string> mixes = {"aten::index", "aten::index_put_", "aten::_index_put_impl_", "aten::index_put",
                                     "aten::_unsafe_index", "aten::_unsafe_index_put"};

struct Call {
  std::vector<Seen> seen;
  bool stranger = false;  // whether a tensor of the host is among the arguments

  c10::IValue entered(const c10::IValue& v, const std::string& name, bool indexing) {
    if (v.isTensor()) return enter(v.toTensor(), seen, stranger);
    if (v.isTensorList()) {
      std::vector<Tensor> list;
      for (const Tensor& t : v.toTensorVector()) list.push_back(enter(t, seen, stranger));
      return list;
    }
    if (v.isOptionalTensorList()) {
      bool ignored = false;
      c10::List<std::optional<Tensor>> list;
      for (const std::optional<Tensor> t : v.toOptionalTensorList())
        list.push_back(t ? std::optional<Tensor>(enter(*t, seen, indexing ? ignored : stranger)) : std::nullopt);
      return list;
    }
    if (v.isDevice() && v.toDevice().type() == kind) return c10::Device(c10::kCPU);
    if (v.isGenerator()) {
      auto g = v.toGenerator();
      TORCH_CHECK(g.device().type() == kind, name, ": Expected a '", here, "' device type for generator but found '",
                  g.device(), "'");
      return static_cast<Numbers*>(g.unsafeGetGeneratorImpl())->inner;
    }
    return v;
  }

  void renew() const {  // what was resized has a new place
    for (auto& s : seen) {
      const bool elsewhere = s.cpu.storage().data() != s.had.storage().data();
      if (!elsewhere && s.cpu.sizes() == s.had.sizes()) continue;
      auto* t = s.had.unsafeGetTensorImpl();
      if (elsewhere) t->set_storage_keep_dtype(moved(s.cpu));
      t->set_sizes_and_strides(s.cpu.sizes(), s.cpu.strides(), s.cpu.storage_offset());
    }
  }

  c10::IValue left(const c10::IValue& v) {
    if (v.isTensor()) return leave(v.toTensor(), seen);
    if (!v.isTensorList()) return v;
    std::vector<Tensor> list;
    for (const Tensor& t : v.toTensorVector()) list.push_back(leave(t, seen));
    return list;
  }
};

void run(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const auto& schema = op.schema();
  const bool indexing = mixes.count(schema.name());
  Call call;
  for (size_t i = stack->size() - schema.arguments().size(); i < stack->size(); ++i)
    (*stack)[i] = call.entered((*stack)[i], schema.name(), indexing);
  TORCH_CHECK(!call.stranger || call.seen.empty(), schema.name(),
              ": Expected all tensors to be on the same device, but found at least two devices, ", here, " and cpu!");
  op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack);
  call.renew();
  for (size_t i = stack->size() - schema.returns().size(); i < stack->size(); ++i) (*stack)[i] = call.left((*stack)[i]);
}

void convolution(const c10::OperatorHandle&, torch::jit::Stack* stack) {
  run(c10::Dispatcher::singleton().findSchemaOrThrow("aten::convolution", ""), stack);
}

void convolution_backward(const c10::OperatorHandle&, torch::jit::Stack* stack) {
  const auto bias = (*stack)[stack->size() - 8].toTensor().size(0);  // of as many numbers as there are filters
  stack->insert(stack->end() - 7, c10::IValue(std::vector<int64_t>{bias}));
  run(c10::Dispatcher::singleton().findSchemaOrThrow("aten::convolution_backward", ""), stack);
}

// torch sends the cells of GRUs to one kernel wherever it is not the CPU.
std::tuple<Tensor, Tensor> gru(const Tensor& input, const Tensor& hidden, const Tensor& h,
                               const std::optional<Tensor>& input_bias, const std::optional<Tensor>& hidden_bias) {
  const auto shifted = [](const Tensor& x, const std::optional<Tensor>& b) { return b && b->defined() ? x + *b : x; };
  const auto i = shifted(input, input_bias).chunk(3, 1), o = shifted(hidden, hidden_bias).chunk(3, 1);
  const auto reset = (i[0] + o[0]).sigmoid(), keep = (i[1] + o[1]).sigmoid(), fresh = (i[2] + reset * o[2]).tanh();
  return {(h - fresh) * keep + fresh, at::cat({reset, keep, fresh, h, o[2]}, 1)};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> gru_backward(const Tensor& slope, const Tensor& kept, bool bias) {
  const auto part = kept.chunk(5, 1);
  const auto &reset = part[0], &keep = part[1], &fresh = part[2], &h = part[3], &own = part[4];
  const auto to_fresh = slope * (1 - keep) * (1 - fresh * fresh);
  const auto to_reset = to_fresh * own * reset * (1 - reset), to_keep = slope * (h - fresh) * keep * (1 - keep);
  const auto input = at::cat({to_reset, to_keep, to_fresh}, 1);
  const auto hidden = at::cat({to_reset, to_keep, to_fresh * reset}, 1);
  return {input, hidden, slope * keep, bias ? input.sum(0) : Tensor(), bias ? hidden.sum(0) : Tensor()};
}

Tensor empty(c10::SymIntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
             std::optional<at::Device>, std::optional<bool>, std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(C10_AS_INTARRAYREF_SLOW(size), &memory, keys, c10::dtype_or_default(dtype), format);
}

Tensor empty_strided(c10::SymIntArrayRef size, c10::SymIntArrayRef stride, std::optional<at::ScalarType> dtype,
                     std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride), &memory, keys,
                                           c10::dtype_or_default(dtype));
}

Tensor zeros(c10::SymIntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout> layout,
             std::optional<at::Device> device, std::optional<bool> pinned) {  // of second derivatives: real ones
  return empty(size, dtype, layout, device, pinned, std::nullopt).zero_();
}

Tensor copy_from(const Tensor& from, const Tensor& to, bool) {
  auto a = from.device().type() == kind ? on_cpu(from) : from;
  auto b = to.device().type() == kind ? on_cpu(to) : to;
  b.copy_(a);
  return to;
}

Tensor copy_from_and_resize(const Tensor& from, const Tensor& to) {
  to.resize_(from.sizes());
  return copy_from(from, to, false);
}

Tensor& set_storage(Tensor& self, c10::Storage source) {
  auto* t = self.unsafeGetTensorImpl();
  t->set_storage_keep_dtype(source);
  t->set_sizes_contiguous({static_cast<int64_t>(source.nbytes() / self.itemsize())});
  return self;
}

Tensor& set_storage_at(Tensor& self, c10::Storage source, int64_t offset, at::IntArrayRef size,
                       at::IntArrayRef stride) {
  auto* t = self.unsafeGetTensorImpl();
  t->set_storage_keep_dtype(source);
  if (stride.size() == size.size()) t->set_sizes_and_strides(size, stride, offset);
  else { t->set_sizes_contiguous(size); t->set_storage_offset(offset); }
  return self;
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&run>()); }

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", &empty);
  m.impl("empty_strided", &empty_strided);
  m.impl("_efficientzerotensor", &zeros);
  m.impl("convolution_overrideable", torch::CppFunction::makeFromBoxedFunction<&convolution>());
  m.impl("convolution_backward_overrideable", torch::CppFunction::makeFromBoxedFunction<&convolution_backward>());
  m.impl("_thnn_fused_gru_cell", &gru);
  m.impl("_thnn_fused_gru_cell_backward", &gru_backward);
  m.impl("set_.source_Storage", &set_storage);
  m.impl("set_.source_Storage_storage_offset", &set_storage_at);
  m.impl("_copy_from", &copy_from);
  m.impl("_copy_from_and_resize", &copy_from_and_resize);
}

struct Install {
  Install() { at::RegisterPrivateUse1HooksInterface(new Hooks()); }
} install;

}  // namespace
