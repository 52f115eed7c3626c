#include "tools/corral/image_command.h"

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <iostream>

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>
#include <sys/stat.h>
#include <unistd.h>

#include "cluster/observation.h"
#include "cluster/sole_use.h"
#include "tools/corral/output_file.h"
#include "tools/corral/watched_volume.h"
#include "tools/fsck_corral/terminal.h"

namespace corral {

namespace {

constexpr int kNotAllRead = 1;
constexpr int kDeclined = 2;
constexpr int kFailed = 8;
using Json = nlohmann::ordered_json;

std::string describe_failure(const Error& error, const std::string& name) {
  const std::string words = error.describe();
  return words.starts_with(name) ? words : name + ": " + words;
}

/// The names of the nodes that live on the volume, as far as its cluster area can be read.
Task<std::vector<std::string>> living_nodes(Executor& executor, Device& device) {
  std::vector<std::string> names;
  auto volume = co_await VolumeReader::open(device);
  Result<cluster::ClusterArea> area = fail(ENOENT);
  if (volume) area = co_await cluster::ClusterArea::find(*volume);
  if (!area) co_return names;
  cluster::Observer observer(executor, *area);
  auto seen = co_await observer.look();
  for (const cluster::ObservedNode& node : seen ? seen->nodes : std::vector<cluster::ObservedNode>())
    if (node.alive()) names.push_back(node.slot.name);
  co_return names;
}

/// Bytes of a file or of standard input.
class Input {
 public:
  static Result<Input> open(const std::string& name) {
    if (name == "-") return Input(FileDescriptor(dup(STDIN_FILENO)), false);
    FileDescriptor file(::open(name.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file) return fail(errno, "{}: {}", name, std::strerror(errno));
    return Input(std::move(file), true);
  }
  /// Whether it can be read twice.
  bool rewind() { return named_ && lseek(file_.get(), 0, SEEK_SET) == 0; }
  image::ImageReader reader() {
    return image::ImageReader([this](std::span<std::byte> into) { return fill(into); });
  }

 private:
  Input(FileDescriptor file, bool named) : file_(std::move(file)), named_(named) {}
  Result<std::size_t> fill(std::span<std::byte> into) const {
    std::size_t filled = 0;
    while (filled < into.size()) {
      const ssize_t count = read(file_.get(), into.data() + filled, into.size() - filled);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) return fail(errno, "{}", std::strerror(errno));
      if (count == 0) break;
      filled += static_cast<std::size_t>(count);
    }
    return filled;
  }
  FileDescriptor file_;
  bool named_;
};

bool is_block_device(const std::string& name) {
  struct stat status{};
  return !names_path(name) || (stat(name.c_str(), &status) == 0 && S_ISBLK(status.st_mode));
}

bool are_same_file(const std::string& one, const std::string& other) {
  std::error_code ignored;
  return std::filesystem::equivalent(one, other, ignored);
}

struct Saved {
  image::SaveReport report;
  std::vector<std::string> living;
};

Result<Saved> save_volume(const std::string& device_name, OutputFile& output, image::SaveOptions options) {
  EventLoop loop;
  AnswerDeadline deadline(loop.executor());
  TRY(auto device,
      loop.run_until_done(deadline.wait_for(open_device(loop, device_name, {.read_only = true, .exclusive = false}),
                                            device_name + ": opening it")));
  DeadlineDevice watched(*device, deadline);
  Saved saved;
  saved.living = loop.run_until_done(living_nodes(loop.executor(), watched));
  options.nodes_lived = !saved.living.empty();
  options.now_seconds = static_cast<std::uint64_t>(std::max<std::int64_t>(0, loop.clock().wall().seconds));
  ProgressBar bar(loop.clock(), isatty(STDERR_FILENO) != 0);
  options.progress = [&bar](std::string_view phase, std::uint64_t done, std::uint64_t total) {
    bar.update(phase, done, total);
  };
  auto report = loop.run_until_done(
      image::save_metadata(loop.executor(), watched, std::move(options),
                           [&output](std::span<const std::byte> bytes) { return output.write(bytes); }));
  loop.run_until_done(deadline.wait_for(device->close(), device_name + ": closing it"));
  if (!report) return std::unexpected(report.error());
  saved.report = *report;
  return saved;
}

void tell(const Saved& saved, const std::string& device, const std::string& file) {
  const image::SaveReport& report = saved.report;
  fmt::print(stderr, "{}: {} blocks of metadata, {} inodes, in {} bytes: {}\n", device, report.blocks, report.inodes,
             report.image_bytes, file == "-" ? "standard output" : file);
  if (!saved.living.empty())
    fmt::print(stderr, "{}: in use by {}: the image may not be consistent\n", device, fmt::join(saved.living, ", "));
  if (report.findings > 0)
    fmt::print(stderr, "{}: damaged in {} places: what could be found is saved\n", device, report.findings);
  if (report.unreadable > 0)
    fmt::print(stderr, "{}: {} blocks could not be read, and are zeros in the image\n", device, report.unreadable);
}

Json json_of(const Saved& saved, const std::string& device, const std::string& file) {
  return {{"device", device},
          {"file", file},
          {"block_size", saved.report.block_size},
          {"device_bytes", saved.report.device_bytes},
          {"blocks", saved.report.blocks},
          {"inodes", saved.report.inodes},
          {"image_bytes", saved.report.image_bytes},
          {"unreadable", saved.report.unreadable},
          {"damages", saved.report.findings},
          {"living", saved.living}};
}

/// Writes what `reader` is at, behind the header, to an open device.
Result<> put_back(EventLoop& loop, Device& device, image::ImageReader& reader, image::Header header, bool empty) {
  ProgressBar bar(loop.clock(), isatty(STDERR_FILENO) != 0);
  image::RestoreOptions options{.empty_device = empty, .progress = {}};
  options.progress = [&bar](std::string_view phase, std::uint64_t done, std::uint64_t total) {
    bar.update(phase, done, total);
  };
  return loop.run_until_done(image::restore_metadata(device, reader, header, std::move(options)));
}

}  // namespace

ImageCommand::ImageCommand(CLI::App& app, int& status) {
  CLI::App* command = app.add_subcommand("image", "Save a volume's metadata, without file data, or restore it");
  command->require_subcommand(1);
  CLI::App* save_command = command->add_subcommand("save", "Save the metadata of a volume to a file");
  save_command->add_option("device", device_, "Device, as for mount.corral, or mount point")->required();
  save_command->add_option("file", file_, "The image; - is standard output")->required();
  save_command->add_flag("--scan", scan_, "Search every block in use for metadata (slow)");
  save_command->add_flag("--contents", contents_, "Keep short files' contents, and logged data");
  save_command->add_flag("--blank", blank_, "Overwrite symlink targets and extended attributes");
  save_command->add_flag("--json", json_, "Report as JSON");
  save_command->callback([this, &status] { status = save(); });
  CLI::App* restore_command = command->add_subcommand("restore", "Make a volume without file data of an image");
  restore_command->add_option("file", file_, "The image; - is standard input")->required();
  restore_command->add_option("device", device_, "Image file to be made, or device to be overwritten")->required();
  restore_command->add_flag("-y,--yes", yes_, "Overwrite without asking");
  restore_command->add_flag("--json", json_, "Report as JSON");
  restore_command->callback([this, &status] { status = restore(); });
}

int ImageCommand::save() const {
  if (file_ == "-" && (json_ || isatty(STDOUT_FILENO) != 0)) {
    fmt::print(stderr, "corral: standard output takes the image: {}\n",
               json_ ? "--json needs another file" : "it is a terminal");
    return kDeclined;
  }
  const std::string device = device_behind(device_);
  if (are_same_file(device, file_)) {
    fmt::print(stderr, "corral: {} is the volume itself\n", file_);
    return kDeclined;
  }
  auto output = OutputFile::create(file_);
  Result<Saved> saved =
      output ? save_volume(device, *output, {.filter = {.keep_contents = contents_, .blank = blank_}, .scan = scan_})
             : std::unexpected(output.error());
  if (saved)
    if (const Result<> finished = output->finish(); !finished) saved = std::unexpected(finished.error());
  if (!saved) {
    fmt::print(stderr, "corral: {}\n", describe_failure(saved.error(), output ? device : file_));
    return kFailed;
  }
  if (json_) {
    fmt::print("{}\n", json_of(*saved, device, file_).dump(2));
  } else {
    tell(*saved, device, file_);
  }
  return saved->report.unreadable > 0 ? kNotAllRead : 0;
}

bool ImageCommand::confirmed() const {
  if (yes_ || (names_path(device_) && !std::filesystem::exists(device_))) return true;
  if (file_ == "-" || isatty(STDIN_FILENO) == 0) {
    fmt::print(stderr, "corral: {} is there already; -y overwrites it\n", device_);
    return false;
  }
  fmt::print(stderr, "{} is there already. All that is on it will be lost. Go on? [y/N] ", device_);
  std::string answer;
  std::getline(std::cin, answer);
  if (answer == "y" || answer == "Y" || answer == "yes") return true;
  fmt::print(stderr, "corral: nothing was changed\n");
  return false;
}

/// Made beside it, and there once it is whole.
Result<image::Header> ImageCommand::restore_to_file() const {
  TRY(Input input, Input::open(file_));
  image::ImageReader reader = input.reader();
  const auto header = reader.begin();
  if (!header) return std::unexpected(header.error().within(file_));
  EventLoop loop;
  if (std::filesystem::exists(device_)) {
    // A volume that somebody uses does not lose its name.
    auto present = loop.run_until_done(cluster::open_for_sole_use(loop, device_, {.read_only = true}));
    if (!present && present.error().code() == EBUSY) return std::unexpected(present.error());
    if (present) loop.run_until_done((*present)->close());
  }
  TRY(OutputFile output, OutputFile::create(device_));
  if (ftruncate(output.descriptor(), static_cast<off_t>(header->device_bytes)) != 0)
    return fail(errno, "{}: {}", output.path(), std::strerror(errno));
  TRY(auto device, loop.run_until_done(open_device(loop, output.path(), {.exclusive = false})));
  const Result<> done = put_back(loop, *device, reader, *header, true);
  loop.run_until_done(device->close());
  if (!done) return std::unexpected(done.error().within(file_));
  TRY_VOID(output.finish());
  return header;
}

/// A file is read to its end before anything is written; a pipe cannot be.
Result<image::Header> ImageCommand::restore_to_device() const {
  TRY(Input input, Input::open(file_));
  if (input.rewind()) {
    image::ImageReader check = input.reader();
    if (const auto sound = image::verify_image(check); !sound)
      return std::unexpected(sound.error().within(file_ + ": nothing was written"));
    input.rewind();
  }
  image::ImageReader reader = input.reader();
  const auto header = reader.begin();
  if (!header) return std::unexpected(header.error().within(file_ + ": nothing was written"));
  EventLoop loop;
  TRY(auto device, loop.run_until_done(cluster::open_for_sole_use(loop, device_, {})));
  const Result<> done = put_back(loop, *device, reader, *header, false);
  loop.run_until_done(device->close());
  if (done) return header;
  // Refused before anything was written.
  if (done.error().code() == EINVAL) return std::unexpected(done.error());
  return std::unexpected(done.error().within(device_ + " holds no volume now, only a part of " + file_));
}

int ImageCommand::restore() const {
  if (!confirmed()) return kDeclined;
  const auto header = is_block_device(device_) ? restore_to_device() : restore_to_file();
  if (!header) {
    fmt::print(stderr, "corral: {}\n", header.error().describe());
    return kFailed;
  }
  if (json_) {
    fmt::print("{}\n", Json{{"device", device_},
                            {"file", file_},
                            {"block_size", header->block_size},
                            {"device_bytes", header->device_bytes},
                            {"saved_at", header->saved_at_seconds},
                            {"nodes_lived", header->nodes_lived},
                            {"contents_kept", header->contents_kept},
                            {"blanked", header->blanked}}
                           .dump(2));
  } else if (header->nodes_lived) {
    fmt::print(stderr, "{}: was saved while nodes used the volume: it may not be consistent\n", device_);
  }
  return 0;
}

}  // namespace corral
