/// What `corral doctor` found, and its JSON.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

namespace corral::doctor {

enum class Severity : std::uint8_t {
  good,     ///< as it should be
  note,     ///< worth knowing
  warning,  ///< works, and costs something or may fail later
  problem,  ///< a node will not mount, or will fail
};
std::string_view name_of(Severity severity);

struct Finding {
  std::string check;  ///< short name of what was looked at
  Severity severity = Severity::good;
  std::string found;
  std::string advice;  ///< what to do; empty where there is nothing
};

class Findings {
 public:
  void good(std::string check, std::string found) { add({std::move(check), Severity::good, std::move(found), {}}); }
  void note(std::string check, std::string found, std::string advice = {}) {
    add({std::move(check), Severity::note, std::move(found), std::move(advice)});
  }
  void warn(std::string check, std::string found, std::string advice) {
    add({std::move(check), Severity::warning, std::move(found), std::move(advice)});
  }
  void problem(std::string check, std::string found, std::string advice) {
    add({std::move(check), Severity::problem, std::move(found), std::move(advice)});
  }
  void add(Finding finding) { all_.push_back(std::move(finding)); }

  const std::vector<Finding>& all() const { return all_; }
  Severity worst() const;

 private:
  std::vector<Finding> all_;
};

void to_json(nlohmann::json& json, const Finding& finding);
void from_json(const nlohmann::json& json, Finding& finding);

}  // namespace corral::doctor
