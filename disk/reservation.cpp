#include "disk/reservation.h"

#include <algorithm>

namespace corral {

bool RegisteredKeys::contains(ReservationKey key) const {
  return std::ranges::find(keys, key) != keys.end();
}

}  // namespace corral
