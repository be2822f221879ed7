// The emulated NPU as a device of torch's own (PrivateUse1): tensors say npu:0, their memory is the
// processor's, and every operator runs on aliases of that memory, which say cpu. Python reaches it
// by operators of the library npu_emulated, so that nothing here needs Python's headers.
// For torch 2.6 and newer; what a torch does not know yet is an ordinary method of ours there.
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/core/impl/alloc_cpu.h>
#include <sys/mman.h>
#include <torch/library.h>

#include <cstdio>
#include <mutex>

using at::Tensor;
using c10::Device;
using c10::DeviceIndex;
using c10::DispatchKey;
using c10::Storage;
using Sizes = c10::IntArrayRef;

constexpr auto NPU = c10::DeviceType::PrivateUse1;
constexpr size_t MB = 1 << 20;
constexpr size_t LAZY = 64 * MB;    // from this size on, a page exists only when it is written
constexpr size_t LOADING = 16 * MB; // the first block of this size means that a model is loaded

// --- What the devices have, and how much of it is taken -----------------------------------------

struct Figures { // bytes
  int64_t live = 0, peak = 0, base = 0; // of tensors now, at most, and of driver and CANN
  int64_t loaded = 0;                   // what these will take once a model is loaded
};
static std::mutex counting;
static std::vector<Figures> devices(1);
static int64_t total = int64_t(1) << 62;
static std::string too_much, no_device; // sentences with {values}, from sentences.toml
static thread_local DeviceIndex current = 0;

static std::string sized(int64_t bytes) {
  char text[32];
  if (bytes >= int64_t(1) << 30) snprintf(text, sizeof text, "%.2f GiB", bytes / 1073741824.);
  else snprintf(text, sizeof text, "%.2f MiB", bytes / 1048576.);
  return text;
}

using Values = std::vector<std::pair<std::string, std::string>>;
static std::string filled(std::string sentence, Values values) {
  for (auto& [name, value] : values)
    for (size_t at; (at = sentence.find("{" + name + "}")) != std::string::npos;)
      sentence.replace(at, name.size() + 2, value);
  return sentence;
}

static void choose(DeviceIndex index) {
  const auto last = std::to_string(devices.size() - 1);
  TORCH_CHECK(index >= 0 && size_t(index) < devices.size(),
              filled(no_device, {{"device", std::to_string(index)}, {"last", last}}));
  current = index;
}

static void take(DeviceIndex index, size_t bytes) {
  std::lock_guard<std::mutex> alone(counting);
  auto& of = devices.at(index);
  if (bytes >= LOADING) {
    of.base += of.loaded;
    of.loaded = 0;
  }
  const auto free = total - of.base - of.live;
  TORCH_CHECK_WITH(OutOfMemoryError, int64_t(bytes) <= free,
                   filled(too_much, {{"wanted", sized(bytes)}, {"device", std::to_string(index)},
                                     {"total", sized(total)}, {"allocated", sized(of.live)},
                                     {"free", sized(std::max<int64_t>(free, 0))}}));
  of.live += bytes;
  of.peak = std::max(of.peak, of.live);
}

static void give_back(DeviceIndex index, size_t bytes) {
  std::lock_guard<std::mutex> alone(counting);
  devices.at(index).live -= bytes;
}

// --- Memory of our own --------------------------------------------------------------------------

struct Block {
  void* start;
  size_t bytes;
  DeviceIndex index;
};

static void* reserved(size_t bytes) {
  constexpr auto flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  auto start = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
  TORCH_CHECK(start != MAP_FAILED, "The emulated NPU cannot reserve ", sized(bytes),
              " of addresses here.");
  return start;
}

static void release(void* context) {
  auto block = static_cast<Block*>(context);
  give_back(block->index, block->bytes);
  if (block->bytes >= LAZY) munmap(block->start, block->bytes);
  else c10::free_cpu(block->start);
  delete block;
}

struct Memory final : c10::Allocator {
  at::DataPtr allocate(size_t bytes) override {
    take(current, bytes);
    void* start = nullptr;
    try {
      start = bytes >= LAZY ? reserved(bytes) : c10::alloc_cpu(bytes);
    } catch (...) {
      give_back(current, bytes);
      throw;
    }
    return {start, new Block{start, bytes, current}, &release, Device(NPU, current)};
  }
  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    memcpy(to, from, bytes);
  }
};
static Memory memory;
REGISTER_ALLOCATOR(NPU, &memory)

struct Guard final : c10::impl::DeviceGuardImplInterface {
  static c10::Stream only(Device device) { return c10::Stream(c10::Stream::DEFAULT, device); }
  c10::DeviceType type() const override { return NPU; }
  Device getDevice() const override { return {NPU, current}; }
  Device exchangeDevice(Device device) const override {
    const auto before = getDevice();
    setDevice(device);
    return before;
  }
  void setDevice(Device device) const override {
    if (device.has_index()) choose(device.index());
  }
  void uncheckedSetDevice(Device device) const noexcept override {
    if (device.has_index()) current = device.index();
  }
  c10::Stream getStream(Device device) const noexcept override { return only(device); }
  c10::Stream getDefaultStream(Device device) const override { return only(device); }
  c10::Stream exchangeStream(c10::Stream stream) const noexcept override {
    return only(stream.device());
  }
  DeviceIndex deviceCount() const noexcept override { return DeviceIndex(devices.size()); }
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard)

// --- One memory, two tensors --------------------------------------------------------------------

struct Alias { // what another device's storage of the same memory keeps alive
  Storage origin;
  DeviceIndex counted; // the device on which it is counted; -1: counted already
  size_t bytes;
};

static void drop(void* context) {
  auto alias = static_cast<Alias*>(context);
  if (alias->counted >= 0) give_back(alias->counted, alias->bytes);
  delete alias;
}

static Storage shared(const Storage& origin, Device device, DeviceIndex counted) {
  auto alias = new Alias{origin, counted, origin.nbytes()};
  at::DataPtr data(const_cast<void*>(origin.data()), alias, &drop, device);
  c10::Allocator* allocator = &memory;
  if (device.is_cpu()) allocator = c10::GetAllocator(at::kCPU);
  return Storage(Storage::use_byte_size_t(), origin.nbytes(), std::move(data), allocator, true);
}

static Tensor over(Storage storage, DispatchKey key, const Tensor& like) {
  const c10::DispatchKeySet keys(key);
  auto made = at::detail::make_tensor<c10::TensorImpl>(std::move(storage), keys, like.dtype());
  auto impl = made.unsafeGetTensorImpl();
  impl->set_sizes_and_strides(like.sizes(), like.strides(), like.storage_offset());
  return made;
}

static bool ours(const Tensor& tensor) { return tensor.defined() && tensor.device().type() == NPU; }

static Tensor host(const Tensor& tensor) {
  if (!ours(tensor)) return tensor;
  return over(shared(tensor.storage(), at::kCPU, -1), DispatchKey::CPU, tensor);
}

// A processor's tensor on a device: where it lies on ours, that; else its memory is counted here.
static Tensor on_device(const Tensor& tensor, DeviceIndex index) {
  if (!tensor.defined() || !tensor.device().is_cpu()) return tensor;
  const auto& data = tensor.storage().data_ptr();
  if (data.get_deleter() == &drop)
    return over(static_cast<Alias*>(data.get_context())->origin, DispatchKey::PrivateUse1, tensor);
  take(index, tensor.storage().nbytes());
  auto storage = shared(tensor.storage(), Device(NPU, index), index);
  return over(std::move(storage), DispatchKey::PrivateUse1, tensor);
}

static void resize_storage(const Storage& storage, size_t bytes) {
  const c10::DeviceGuard there(storage.device());
  auto fresh = memory.allocate(bytes);
  const size_t kept = std::min(bytes, storage.nbytes());
  if (kept) memcpy(fresh.get(), storage.data(), kept);
  storage.set_data_ptr_noswap(std::move(fresh));
  storage.set_nbytes(bytes);
}

// --- Every operator, on aliases -----------------------------------------------------------------

struct Arguments { // of one call
  std::vector<std::pair<Tensor, Tensor>> seen; // a tensor of ours and its alias
  std::optional<Device> here, other;           // the device of the first one, and one that differs

  Tensor alias(const Tensor& tensor, bool anywhere = false) {
    if (!ours(tensor)) {
      if (tensor.defined() && tensor.dim() && !anywhere) other = tensor.device();
      return tensor;
    }
    if (!here) here = tensor.device();
    if (*here != tensor.device()) other = tensor.device();
    seen.emplace_back(tensor, host(tensor));
    return seen.back().second;
  }

  void replace(c10::IValue& value) {
    if (value.isTensor()) {
      value = alias(value.toTensor());
    } else if (value.isTensorList()) {
      c10::List<Tensor> list;
      for (const Tensor& each : value.toTensorVector()) list.push_back(alias(each));
      value = list;
    } else if (value.isOptionalTensorList()) { // of indices, which may stay on the host
      c10::List<std::optional<Tensor>> list;
      for (const std::optional<Tensor>& each : value.toOptionalTensorList().vec())
        list.push_back(each ? std::optional<Tensor>(alias(*each, true)) : each);
      value = list;
    } else if (value.isDevice() && value.toDevice().type() == NPU) {
      const auto named = value.toDevice();
      if (!here) here = Device(NPU, named.has_index() ? named.index() : current);
      value = Device(at::kCPU);
    }
  }

  // Outputs that were given another shape, and perhaps more memory.
  void follow() {
    for (auto& [tensor, alias] : seen) {
      if (alias.sizes() == tensor.sizes() && alias.strides() == tensor.strides()) continue;
      if (alias.storage().data() != tensor.storage().data()) {
        resize_storage(tensor.storage(), alias.storage().nbytes());
        memcpy(tensor.storage().mutable_data(), alias.storage().data(), alias.storage().nbytes());
      }
      tensor.unsafeGetTensorImpl()->set_sizes_and_strides(alias.sizes(), alias.strides(),
                                                          alias.storage_offset());
    }
  }

  Tensor result(const Tensor& tensor) {
    for (auto& [mine, alias] : seen)
      if (alias.is_same(tensor)) return mine;
    return on_device(tensor, here ? here->index() : current);
  }
};

static void fallback(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const auto& schema = op.schema();
  Arguments arguments;
  for (size_t at = stack->size() - schema.arguments().size(); at < stack->size(); at++)
    arguments.replace((*stack)[at]);
  TORCH_CHECK(!arguments.other || !arguments.here,
              "Expected all tensors to be on the same device, but found at least two devices, ",
              *arguments.here, " and ", *arguments.other, "! (in ", schema.operator_name(), ")");
  op.redispatchBoxed(c10::DispatchKeySet(DispatchKey::CPU), stack);
  arguments.follow();
  for (size_t at = stack->size() - schema.returns().size(); at < stack->size(); at++) {
    auto& value = (*stack)[at];
    if (value.isTensor()) {
      value = arguments.result(value.toTensor());
    } else if (value.isTensorList()) {
      c10::List<Tensor> list;
      for (const Tensor& each : value.toTensorVector()) list.push_back(arguments.result(each));
      value = list;
    }
  }
}

// --- The operators that make memory, or join two devices ----------------------------------------

using Type = std::optional<at::ScalarType>;
using Layout = std::optional<at::Layout>;
using Where = std::optional<Device>;
using Pin = std::optional<bool>;
using Format = std::optional<at::MemoryFormat>;
static const c10::DispatchKeySet KEYS(DispatchKey::PrivateUse1);

static at::ScalarType type_of(Type type) {
  return type.value_or(at::typeMetaToScalarType(at::get_default_dtype()));
}
static Tensor empty(Sizes size, Type type, Layout, Where where, Pin, Format format) {
  const c10::OptionalDeviceGuard there(where);
  return at::detail::empty_generic(size, &memory, KEYS, type_of(type), format);
}
static Tensor empty_strided(Sizes size, Sizes stride, Type type, Layout, Where where, Pin) {
  const c10::OptionalDeviceGuard there(where);
  return at::detail::empty_strided_generic(size, stride, &memory, KEYS, type_of(type));
}
static Tensor zeros(Sizes size, Type type, Layout layout, Where where, Pin pin) {
  auto made = empty(size, type, layout, where, pin, std::nullopt);
  return made.storage().nbytes() >= LAZY ? made : made.zero_(); // large ones are zero already
}
static Tensor copy_from(const Tensor& from, const Tensor& to, bool) {
  host(to).copy_(host(from));
  return to;
}
static const Tensor& resize_(const Tensor& self, Sizes size, Format format) {
  if (self.sizes() == size && !format) return self; // as torch does: strides stay
  auto impl = self.unsafeGetTensorImpl();
  impl->set_sizes_contiguous(size);
  if (format && *format != at::MemoryFormat::Preserve) impl->empty_tensor_restride(*format);
  const size_t bytes = (impl->numel() + impl->storage_offset()) * impl->itemsize();
  if (impl->numel() && bytes > self.storage().nbytes()) resize_storage(self.storage(), bytes);
  return self;
}
static Tensor& set_storage(Tensor& self, Storage storage, int64_t offset, Sizes size,
                           Sizes stride) {
  TORCH_CHECK(storage.device() == self.device(), "Attempted to set the storage of a tensor on ",
              self.device(), " to a storage on ", storage.device(), ".");
  auto impl = self.unsafeGetTensorImpl();
  impl->set_storage_keep_dtype(std::move(storage));
  impl->set_storage_offset(offset);
  if (stride.empty()) impl->set_sizes_contiguous(size);
  else impl->set_sizes_and_strides(size, stride, offset);
  return self;
}
static Tensor& set_nothing(Tensor& self) { // others that lie on the old storage keep it
  const auto fresh = empty({0}, self.scalar_type(), {}, self.device(), {}, {});
  return set_storage(self, fresh.storage(), 0, {0}, {});
}
static Tensor& set_whole_storage(Tensor& self, Storage storage) {
  const int64_t count = storage.nbytes() / self.element_size();
  return set_storage(self, std::move(storage), 0, {count}, {});
}
static Tensor& set_tensor(Tensor& self, const Tensor& from) {
  return set_storage(self, from.storage(), from.storage_offset(), from.sizes(), from.strides());
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&fallback>());
}
TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", &empty);
  m.impl("empty_strided", &empty_strided);
  m.impl("zeros", &zeros);
  m.impl("_copy_from", &copy_from);
  m.impl("resize_", &resize_);
  m.impl("set_", &set_nothing);
  m.impl("set_.source_Storage", &set_whole_storage);
  m.impl("set_.source_Storage_storage_offset", &set_storage);
  m.impl("set_.source_Tensor", &set_tensor);
}

// --- What torch and Python ask ------------------------------------------------------------------

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const { return true; }
  bool isAvailable() const { return true; }
  bool hasPrimaryContext(DeviceIndex) const override { return true; }
  DeviceIndex deviceCount() const { return DeviceIndex(devices.size()); }
  DeviceIndex getCurrentDevice() const { return current; }
  void setCurrentDevice(DeviceIndex index) const { choose(index); }
  Device getDeviceFromPtr(void*) const override { return {NPU, current}; }
  bool isPinnedPtr(const void*) const override { return false; }
  at::Allocator* getPinnedMemoryAllocator() const override { return c10::GetAllocator(at::kCPU); }
  const at::Generator& getDefaultGenerator(DeviceIndex) const override {
    return at::detail::getDefaultCPUGenerator();
  }
  void resizePrivateUse1Bytes(const Storage& storage, size_t bytes) const override {
    resize_storage(storage, bytes);
  }
};
static Hooks hooks;
static const bool registered = (at::RegisterPrivateUse1HooksInterface(&hooks), true);

static void begin(int64_t count, int64_t bytes, int64_t used, int64_t loaded,
                  std::string memory_sentence, std::string device_sentence) {
  devices.assign(count, Figures{0, 0, used, loaded});
  total = bytes;
  too_much = std::move(memory_sentence);
  no_device = std::move(device_sentence);
}
static std::vector<int64_t> figures(int64_t index) {
  std::lock_guard<std::mutex> alone(counting);
  const auto& of = devices.at(index);
  return {of.live, of.peak, of.base};
}
static void forget_peak(int64_t index) {
  std::lock_guard<std::mutex> alone(counting);
  devices.at(index).peak = devices.at(index).live;
}

TORCH_LIBRARY(npu_emulated, m) {
  m.def("host(Tensor(a) self) -> Tensor(a)", &host);
  m.def("device(Tensor(a) self, int index) -> Tensor(a)",
        [](const Tensor& self, int64_t index) { return on_device(self, DeviceIndex(index)); });
  m.def("begin(int count, int total, int used, int loaded, str too_much, str no_device) -> ()",
        &begin);
  m.def("figures(int device) -> int[]", &figures);
  m.def("forget_peak(int device) -> ()", &forget_peak);
  m.def("current() -> int", [] { return int64_t(current); });
  m.def("choose(int device) -> ()", [](int64_t index) { choose(DeviceIndex(index)); });
}
