// The master's and the directory's side of the engine.
#include "base/check.h"
#include "dlm/engine.h"

namespace corral::dlm {

/// Of a resource that is new, or that lost its master: nobody knows what the dead had of it.
void Engine::become_master(Resource& resource) {
  CHECK_INVARIANT(!resource.queue);
  resource.master = self_;
  resource.queue = std::make_unique<LockQueue>();
  for (NodeId dead : deaths_.unrecovered()) {
    resource.queue->block_for(dead);
    resource.queue->invalidate_value();
  }
}

void Engine::handle(Member from, Request& request) {
  if (!view_.contains(request.owner)) return fault(from, "passes on a request of a node that is not a member");
  Resource* resource = find_resource(request.name);
  if (resource != nullptr && resource->queue) {
    if (!hands_over(*resource, request)) return request_here(*resource, request);
    post(directory_node(view_, request.name), Forget{request.name});
    erase_resource(*resource);
  }
  if (++request.hops > kRequestHopsMax) return fault(from, "sends a request that finds no master");
  const Member directory = directory_node(view_, request.name);
  // Forgotten here, and the directory knows by now: messages keep their order.
  if (directory != self_) return post(directory, request);
  const Member master = directory_.find_or_appoint(request.name, request.owner);
  if (master == request.owner) {
    post(request.owner, YouAreMaster{request.lock, request.name});
  } else {
    post(master, request);
  }
}

/// Who asks for CW means to come back; this node has no use for the resource, nor a value to keep.
bool Engine::hands_over(const Resource& resource, const Request& request) const {
  return request.owner != self_ && request.mode == Mode::concurrent_write && resource.unused_linked() &&
         resource.queue->value().sequence == 0;
}

void Engine::request_here(Resource& resource, const Request& request) {
  const LockOwner owner{request.owner, request.lock};
  if (resource.queue->size() >= limits_.locks_per_resource)
    return post(request.owner, Reply{request.lock, ReplyCode::no_room, Mode::null, false, {}});
  auto [found, added] = queued_.try_emplace(owner, Queued{QueuedLock(owner), &resource});
  if (!added) return fault(request.owner, "requests a lock that it has");
  mark_used(resource);
  LockQueue::Events events;
  resource.queue->request(found->second.lock, request.mode, request.flags, clock_.now(), events);
  tell_owners(resource, events);
}

Engine::Queued* Engine::find_queued(const LockOwner& owner) {
  auto found = queued_.find(owner);
  return found == queued_.end() ? nullptr : &found->second;
}

/// What waits leaves the queue, without a word; a conversion goes back to what is granted.
void Engine::drop_waiting(LockQueue& queue) {
  queue.drop_waiting([this](QueuedLock& gone) { queued_.erase(gone.owner); });
}

void Engine::drop_granted(LockQueue& queue, const LockOwner& owner) {
  queue.remove(find_queued(owner)->lock);
  queued_.erase(owner);
}

void Engine::handle(Member from, Convert& convert) {
  Queued* queued = find_queued({from, convert.lock});
  if (queued == nullptr || queued->lock.state != QueuedLock::State::granted)
    return fault(from, "converts a lock that is not granted");
  LockQueue& queue = *queued->resource->queue;
  if (convert.value_written) queue.write_value(convert.value);
  LockQueue::Events events;
  queue.convert(queued->lock, convert.mode, convert.flags, clock_.now(), events);
  tell_owners(*queued->resource, events);
}

void Engine::handle(Member from, Unlock& unlock) {
  Queued* queued = find_queued({from, unlock.lock});
  // Done in an earlier view, the answer to which was lost.
  if (queued == nullptr) return post(from, Reply{unlock.lock, ReplyCode::unlocked, Mode::null, false, {}});
  Resource& resource = *queued->resource;
  if (unlock.value_written) resource.queue->write_value(unlock.value);
  LockQueue::Events events;
  resource.queue->unlock(queued->lock, clock_.now(), events);
  tell_owners(resource, events);
}

void Engine::handle(Member from, Cancel& cancel) {
  // Not there, or not waiting: it was answered before.
  Queued* queued = find_queued({from, cancel.lock});
  if (queued == nullptr) return;
  LockQueue::Events events;
  queued->resource->queue->cancel(queued->lock, clock_.now(), events);
  tell_owners(*queued->resource, events);
}

/// Sends what the queue has to say, and drops the locks that left it.
void Engine::tell_owners(Resource& resource, const LockQueue::Events& events) {
  for (const QueueEvent& event : events) {
    if (event.kind == QueueEvent::Kind::blocking) {
      post(event.owner.node, Blocking{event.owner.lock, event.mode});
      continue;
    }
    post(event.owner.node, Reply{event.owner.lock, event.code, event.mode, event.demoted, resource.queue->value()});
    auto found = queued_.find(event.owner);
    CHECK_INVARIANT(found != queued_.end());
    if (!found->second.lock.is_linked()) queued_.erase(found);
  }
  release_if_unused(resource);
}

void Engine::handle(Member from, Forget& forget) {
  if (!directory_.forget(forget.name, from)) fault(from, "gives up a resource that it does not master");
}

void Engine::release_if_unused(Resource& resource) {
  if (!resource.owned.empty() || (resource.queue && !resource.queue->empty()) || resource.unused_linked()) return;
  unused_.push_back(resource);
}

void Engine::trim_unused() {
  while (unused_.size() > limits_.unused_resources) {
    Resource& oldest = unused_.front();
    if (oldest.queue) post(directory_node(view_, oldest.name), Forget{oldest.name});
    erase_resource(oldest);
  }
}

void Engine::erase_resource(Resource& resource) {
  CHECK_INVARIANT(resource.owned.empty());
  mark_used(resource);
  in_order_.erase(in_order_.iterator_to(resource));
  // The name is the key that is erased.
  const ResourceName name = resource.name;
  resources_.erase(name);
}

}  // namespace corral::dlm
