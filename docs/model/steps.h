/* The steps of the model, compiled into spin's verifier: see membership.pml. `now` is its state. */
#include "configuration.h"

#define EACH(x, n) for (int x = 0; x < (n); ++x)
enum { kTwoServe = 1, kLateWrite, kTwoReplays, kNotReplayed, kForeignJournal, kStaleReplay, kNobodyLeft };

static int has(int set, int x) {
  return x != NOBODY && ((set >> x) & 1);
}
static int bit(int x) {
  return 1 << x;
}
static int me(int h) {
  return h * LIVES_OF_HOST + now.nth[h];
}
static int host_of(int life) {
  return life / LIVES_OF_HOST;
}
static int own_slot(int h) {
  return now.slot_of[me(h)];
}
static int runs(int h) {
  return now.phase[h] <= MEMBER;
}
static int knows_area(int h) {
  return now.phase[h] >= ASKING && now.phase[h] <= MEMBER;
}
static int current(int life) {
  return me(host_of(life)) == life;
}
static void bad(int which) {
  if (!now.fault) now.fault = which;
}

/* ---- what a host sees: cluster/slot_monitor.cpp ---- */
static int silence_of(int h, int s) {
  return now.silence[h * SLOTS + s];
}
static int slot_dead(int h, int s) {
  return silence_of(h, s) >= TIMEOUT;
}
static int slot_seen(int h, int s) {
  return has(now.seen_to_change[h], s);
}
static int slot_late(int h, int s) {
  return !slot_dead(h, s) && slot_seen(h, s) && silence_of(h, s) >= LATE;
}
static int slot_alive(int h, int s) {
  return !slot_dead(h, s) && slot_seen(h, s) && silence_of(h, s) < LATE;
}
static int slot_unknown(int h, int s) {
  return !slot_dead(h, s) && !slot_seen(h, s);
}
static int occupied(int s) {
  return now.slot_state[s] != FREE;
}
static int holds(int life) {
  const int s = now.slot_of[life];
  return s != NOBODY && occupied(s) && now.slot_life[s] == life;
}
static int on_slot(int set, int s) { /* lives of the set whose slot it is */
  int found = 0;
  EACH(l, LIVES) if (has(set, l) && now.slot_of[l] == s) found |= bit(l);
  return found;
}
static int slots_of(int set) {
  int slots = 0;
  EACH(l, LIVES) if (has(set, l) && now.slot_of[l] != NOBODY) slots |= bit(now.slot_of[l]);
  return slots;
}
static int process_ended(int h, int life) {
  return has(now.refused[h], life) && !has(now.heard[h], life) && holds(life) &&
         silence_of(h, now.slot_of[life]) >= ENDED_AFTER;
}
static int is_dead(int h, int life) {
  return slot_dead(h, now.slot_of[life]) || process_ended(h, life);
}
static int is_gone(int h, int life) {
#ifdef PLANT_REPLAY_BEFORE_FENCE
  return is_dead(h, life);
#endif
  if (!has(now.fenced[h], life)) return 0;
#ifdef PLANT_NO_WAIT
  return 1;
#endif
  return (holds(life) ? silence_of(h, now.slot_of[life]) : now.fenced_age[h]) >= TIMEOUT || process_ended(h, life);
}
static int may_serve(int h) {
  return now.phase[h] == MEMBER && !has(now.outvoted, h) && now.lease[h] < LEASE;
}

/* A lease is as old as the older one of heartbeat and reading, which come in one turn, unless the heartbeat waits for
 * the slot that is being freed (Membership::own_slot_). */
static int has_beaten;
static void renew(int h) {
  if (has_beaten) now.lease[h] = 0;
}

/* ---- properties ---- */
/* No two serve of which the later view leaves the other out. */
static void check_serving(void) {
  EACH(a, HOSTS) EACH(b, HOSTS) {
    if (a != b && may_serve(a) && may_serve(b) && now.number[a] >= now.number[b] && !has(now.view[a], me(b)))
      bad(kTwoServe);
  }
}
/* What the life had locked is given on. */
static void node_recovered(int h, int life) {
  now.awaiting[h] &= ~bit(life);
  if (now.dirty[now.slot_of[life]] == life || has(now.flying, life)) bad(kNotReplayed);
}

/* ---- the end of a life ---- */
static void forget(int h) {
  now.heard[h] = now.refused[h] = now.view[h] = now.number[h] = 0;
  now.promised[h] = 0;
  now.promised_to[h] = NOBODY;
  now.broken &= ~bit(h), now.outvoted &= ~bit(h), now.replaying_all &= ~bit(h);
  now.split_since[h] = now.joiners[h] = now.admitted[h] = 0;
  now.fencing[h] = now.fenced[h] = now.fenced_age[h] = now.recovering[h] = now.awaiting[h] = 0;
  now.change[h] = now.change_number[h] = now.change_members[h] = now.unanswered[h] = 0;
  now.election[h] = now.election_age[h] = 0;
  now.lease[h] = LEASE;
  EACH(s, SLOTS) now.silence[h * SLOTS + s] = 0;
  now.seen_to_change[h] = 0;
  now.settling[h] = 0, now.fence_victim[h] = NOBODY;
  now.to_free[h] = 0;
  if (now.free_step[h] == 1) now.free_step[h] = 0, now.free_victim[h] = NOBODY;
  if (now.replay_step[h] == 1) now.replay_step[h] = 0, now.replay_victim[h] = NOBODY;
  now.claim_step[h] = now.claim_age[h] = 0, now.claim_victim[h] = NOBODY;
}
/* What it had sent may still come to the disk: heartbeat, claim, record, freed slot, the writes of a replay. */
static void end(int h, int how) {
  now.phase[h] = how;
  forget(h);
}
static int has_sent(int h) {
  return now.claim_step[h] || now.record[h] || now.free_step[h] || now.replay_step[h] == 2 || has(now.flying, me(h));
}
/* The next life begins when all that the one before had sent has been answered (fuse/mount_life.h). */
static int can_begin_anew(int h) {
  return !runs(h) && now.nth[h] + 1 < LIVES_OF_HOST && !has_sent(h);
}
static void begin_anew(int h) {
  ++now.nth[h];
  now.phase[h] = STARTING;
  now.replay_step[h] = 0, now.replay_victim[h] = NOBODY;
}

/* ---- writes to the area ---- */
static void write_slot(int s, int life, int state, int hears) {
  if (now.slot_life[s] != life) now.unknown[s] = bit(HOSTS) - 1;
  now.slot_life[s] = life, now.slot_state[s] = state, now.slot_hears[s] = hears;
  now.unread[s] = bit(HOSTS) - 1;
}

/* ---- fence/reservation_fencer.cpp ---- */
static int has_key(int h) {
  return has(now.keys, me(h));
}
static void preempt_and_abort(int life) {
  now.keys &= ~bit(life), now.flying &= ~bit(life);
}
static void request_fence(int h, int life) {
  if (!has(now.fenced[h], life)) now.fencing[h] |= bit(life);
}
static int can_fence(int h, int life) {
  return knows_area(h) && has(now.fencing[h], life) && (!now.settling[h] || now.fence_victim[h] == life);
}
static void fence_ends(int h, int life, int done) {
  now.fencing[h] &= ~bit(life);
  now.settling[h] = 0;
  now.fence_victim[h] = NOBODY;
  if (!done) return;
  now.fenced[h] |= bit(life);
  now.fenced_age[h] = 0;
}
/* Who dies between removing the key and knowing of it has done the same as one who dies after. */
static void fence(int h, int life) {
#ifndef PLANT_FENCED_PREEMPTS
  if (!has_key(h)) {
    end(h, ENDED);
    return;
  }
#endif
#ifdef NO_ABORT
  /* remove_key(), then settle_in_flight() */
  if (has(now.keys, life)) {
    now.keys &= ~bit(life);
    now.settling[h] = 1;
    now.fence_victim[h] = life;
#ifndef PLANT_NO_ABORT
    return;
#endif
  } else {
    now.flying = 0;
  }
#else
  if (has(now.keys, life)) {
    preempt_and_abort(life);
  } else {
    now.flying = 0;
  }
#endif
  if (!now.keys) bad(kNobodyLeft);
  fence_ends(h, life, 1);
}
/* A command fails, or its answer is lost: it was carried out or not. Nobody takes that for success. */
/* The command fails, or its answer is lost. The next scan asks again; only a planted mistake takes it for success. */
static void fence_fails(int h, int life) {
  fence_ends(h, life, 1);
}

/* ---- installing and ending: membership_core.cpp ---- */
static int joins(int h, int s) {
  return now.slot_state[s] == JOINING && slot_alive(h, s);
}
static int earlier_members(int h, int members) {
  int earlier = 0;
  EACH(s, SLOTS) if (occupied(s) && !on_slot(members, s) && !joins(h, s)) earlier |= bit(now.slot_life[s]);
  return earlier;
}
static void install(int h, int number, int members, int is_first) {
  int gone = now.view[h] & ~members;
  if (!now.number[h]) gone |= earlier_members(h, members);
  now.awaiting[h] |= gone;
  now.replaying_all = is_first ? now.replaying_all | bit(h) : now.replaying_all & ~bit(h);
  now.view[h] = members, now.number[h] = number;
  now.phase[h] = MEMBER;
  if (now.promised[h] < number) now.promised[h] = number;
  now.broken &= ~bit(h), now.outvoted &= ~bit(h);
  now.split_since[h] = 0;
  now.change[h] = now.change_number[h] = now.change_members[h] = now.unanswered[h] = 0;
  now.election[h] = now.election_age[h] = 0;
  now.joiners[h] &= ~members;
  now.admitted[h] = 0;
  if (members & ~bit(me(h)) & ~now.heard[h]) now.broken |= bit(h);
  check_serving();
}
static void check_record(int h) {
  if (now.record_number > now.number[h]) {
    if (has(now.record_members, me(h))) {
      install(h, now.record_number, now.record_members, 0);
      return;
    }
    end(h, ENDED);
    return;
  }
  if (now.record_number != now.number[h] || now.record_members != now.view[h]) {
    now.broken |= bit(h);
    return;
  }
  renew(h);
}
static void notice_recovered(int h) {
  EACH(l, LIVES) {
    if (!has(now.awaiting[h], l)) continue;
    const int s = now.slot_of[l];
#ifndef MEND_FREE_SLOT
    const int freed = !occupied(s);
#else
    const int freed = !occupied(s) && now.incarnation[now.slot_life[s]] >= now.incarnation[l];
#endif
#ifndef MEND_JOINER
    const int is_joiner = joins(h, s);
#else
    const int is_joiner = joins(h, s) && now.slot_life[s] == l;
#endif
    if (freed || on_slot(now.view[h], s) || is_joiner) node_recovered(h, l);
  }
}

/* ---- arbitration: cluster/arbitration.cpp, membership_leader.cpp ---- */
static int heard_slots(int h) {
  return slots_of(now.heard[h]);
}
/* Voters by slot; what each hears. */
static int living_voters(int h, int hears[]) {
  int voters = 0;
  EACH(l, LIVES) {
    if (!has(now.view[h], l)) continue;
    const int s = now.slot_of[l];
    if (l == me(h))
      voters |= bit(s), hears[s] = heard_slots(h);
    else if (!is_dead(h, l))
      voters |= bit(s), hears[s] = holds(l) ? now.slot_hears[s] : 0;
  }
  return voters;
}
static int all_hear(int voters, const int hears[], int both_ways) {
  (void)both_ways;
  EACH(a, SLOTS) EACH(b, SLOTS) if (a != b && has(voters, a) && has(voters, b) && !has(hears[a], b)) return 0;
  return 1;
}
static int size(int set) {
  return __builtin_popcount((unsigned)set);
}
static int best_set(int voters, const int hears[]) {
  int best = 0;
  EACH(set, 1 << SLOTS) {
    if ((set & voters) != set || !all_hear(set, hears, 1)) continue;
    const int differ = set ^ best;
    if (size(set) > size(best) || (size(set) == size(best) && (set & differ & -differ))) best = set;
  }
  return best;
}
/* What arbitrate() found; each scan finds it anew. */
static int survivors, leads;
static void arbitrate(int h) {
  int hears[SLOTS];
  const int voters = living_voters(h, hears);
  int nodes = voters, any_late = 0;
  if (all_hear(voters, hears, 0))
    now.split_since[h] = 0;
  else if (!now.split_since[h])
    now.split_since[h] = 1;
  EACH(l, LIVES) {
    if (has(now.view[h], l) && l != me(h) && slot_late(h, now.slot_of[l]) && !process_ended(h, l)) any_late = 1;
  }
  if (now.split_since[h] > GRACE && !any_late) nodes = best_set(voters, hears);
  survivors = 0;
  EACH(l, LIVES) if (has(now.view[h], l) && has(nodes, now.slot_of[l])) survivors |= bit(l);
  const int lowest = nodes & -nodes;
  now.outvoted = has(survivors, me(h)) ? now.outvoted & ~bit(h) : now.outvoted | bit(h);
  leads = has(survivors, me(h)) && lowest == bit(own_slot(h));
}

/* ---- what the leader does ---- */
static void recover_when_gone(int h, int life, int dead) {
  if (has(now.recovering[h], life)) return;
  if (is_gone(h, life)) {
    now.recovering[h] |= bit(life);
#ifdef PLANT_FREE_BEFORE_REPLAY
    now.to_free[h] |= bit(life);
#endif
  } else if (dead) {
    request_fence(h, life);
  }
}
static void drive_recovery(int h) {
  EACH(s, SLOTS) {
    if (occupied(s) && !has(now.view[h], now.slot_life[s]))
      recover_when_gone(h, now.slot_life[s], is_dead(h, now.slot_life[s]));
  }
  EACH(l, LIVES) {
    if (!has(now.awaiting[h], l)) continue;
    const int s = now.slot_of[l];
#ifndef MEND_FREE_SLOT
    if (occupied(s) && now.slot_life[s] != l) recover_when_gone(h, l, 1);
#else
    if (now.slot_life[s] != l) recover_when_gone(h, l, 1);
#endif
  }
}
static int has_to_wait(int h, int joiner) {
  const int s = now.slot_of[joiner];
  if (has(now.replaying_all, h) || now.recovering[h] || on_slot(now.awaiting[h], s) || on_slot(now.view[h], s))
    return 1;
  EACH(o, SLOTS) {
    if (o == s || !occupied(o)) continue;
    if (host_of(now.slot_life[o]) == host_of(joiner)) return 1; /* the same name */
    if (!has(now.view[h], now.slot_life[o]) && slot_dead(h, o)) return 1;
  }
  return 0;
}
static void admit_joiners(int h) {
  EACH(l, LIVES) {
    if (!has(now.joiners[h], l)) continue;
    if (!has(now.heard[h], l) || !holds(l)) {
      now.joiners[h] &= ~bit(l), now.admitted[h] &= ~bit(l);
    } else if (!has_to_wait(h, l)) {
      now.admitted[h] |= bit(l);
    }
  }
}
static int wanted_members(int h) {
  int wanted = survivors;
  EACH(l, LIVES) {
    const int s = now.slot_of[l];
    if (has(now.admitted[h], l) && holds(l) && has(now.heard[h], l) && !slot_late(h, s) && !slot_dead(h, s))
      wanted |= bit(l);
  }
  return wanted;
}
static int larger(int a, int b) {
  return a > b ? a : b;
}
static int next_number(int h) {
  return larger(now.number[h], larger(now.promised[h], now.record_number)) + 1;
}
static void send_record(int h, int number, int members) {
  now.record[h] = 1;
  now.record_number_of[h] = number, now.record_members_of[h] = members;
  now.record_generation_of[h] = now.record_generation + 1;
}
/* Who was asked answers no more: it promised a higher number to another. */
static int refused_by_one(int h) {
  EACH(l, LIVES) {
    const int o = host_of(l);
    if (has(now.unanswered[h], l) && current(l) && now.promised[o] >= now.change_number[h]) return 1;
  }
  return 0;
}
static void drive_change(int h) {
  const int wanted = wanted_members(h);
  if (now.change[h] == 2) return;
  if (now.change[h] && (now.change_members[h] != wanted || refused_by_one(h))) {
    now.change[h] = now.change_number[h] = now.change_members[h] = now.unanswered[h] = 0;
  }
  if (!now.change[h]) {
    if (wanted & ~bit(me(h)) & ~now.heard[h]) return;
    if (wanted == now.view[h] && (!has(now.broken, h) || now.split_since[h])) return;
    EACH(l, LIVES) if (has(now.view[h], l) && !has(wanted, l) && !is_gone(h, l)) return;
    if (next_number(h) > VIEWS || now.record[h]) return;
    now.change[h] = 1;
    now.change_number[h] = next_number(h), now.change_members[h] = wanted;
    now.unanswered[h] = wanted & ~bit(me(h));
    now.promised[h] = now.change_number[h], now.promised_to[h] = me(h);
  }
  if (now.unanswered[h]) return;
  now.change[h] = 2;
  send_record(h, now.change_number[h], now.change_members[h]);
}
static void lead(int h) {
  if (has(now.broken, h)) { /* tells the others, so that each knows */
    EACH(l, LIVES) {
      const int o = host_of(l);
      if (has(now.view[h], l) && l != me(h) && has(now.heard[h], l) && current(l) && now.number[o] == now.number[h] &&
          has(now.heard[o], me(h)))
        now.broken |= bit(o);
    }
  }
  if (!leads) {
    if (now.change[h] == 1) now.change[h] = now.change_number[h] = now.change_members[h] = now.unanswered[h] = 0;
    return;
  }
  drive_recovery(h);
  admit_joiners(h);
  EACH(l, LIVES) if (has(now.view[h], l) && !has(survivors, l) && !is_gone(h, l)) request_fence(h, l);
  drive_change(h);
}

/* ---- messages ---- */
static int hear_each_other(int h, int life) {
  return current(life) && has(now.heard[h], life) && has(now.heard[host_of(life)], me(h));
}
static int can_prepare(int h, int o) { /* take_prepare() at o of what h asks */
  if (h == o || now.change[h] != 1 || !has(now.unanswered[h], me(o)) || !hear_each_other(h, me(o))) return 0;
  if (now.phase[o] != MEMBER && now.phase[o] != ASKING) return 0;
  if (now.change_number[h] <= now.number[o]) return 0;
  if (now.phase[o] == MEMBER ? !has(now.view[o], me(h)) : !has(now.record_members, me(h))) return 0;
  if (now.change_number[h] <= now.promised[o] &&
      !(now.change_number[h] == now.promised[o] && now.promised_to[o] == me(h)))
    return 0;
  return 1;
}
static void prepare(int h, int o) {
  now.promised[o] = now.change_number[h], now.promised_to[o] = me(h);
  if (now.change[o] == 1) now.change[o] = now.change_number[o] = now.change_members[o] = now.unanswered[o] = 0;
  now.unanswered[h] &= ~bit(me(o));
}
/* The record is announced: who misses that finds it on the disk. */
static int can_commit(int o) {
  const int from = now.promised_to[o];
  if (!knows_area(o) || from == NOBODY || from == me(o) || now.promised[o] <= now.number[o]) return 0;
  return current(from) && now.number[host_of(from)] == now.promised[o] && hear_each_other(o, from);
}

static void commit(int o) {
  const int from = host_of(now.promised_to[o]);
  install(o, now.number[from], now.view[from], 0);
}

/* ---- joining: membership_join.cpp ---- */
static int all_slots_dead(int h) {
  EACH(s, SLOTS) if (!occupied(s) || !slot_dead(h, s)) return 0;
  return 1;
}
static int can_claim(int h, int s) {
  if (now.phase[h] != STARTING || now.record[h] || now.free_step[h]) return 0;
  EACH(o, SLOTS) if (now.unread[o] & bit(h)) return 0; /* decided as it reads */
  return !occupied(s) || all_slots_dead(h);
}
static void claim(int h, int s) {
  now.claim_victim[h] = occupied(s) ? now.slot_life[s] : NOBODY;
  now.slot_of[me(h)] = s;
  now.incarnation[me(h)] = ++now.claims;
  now.claim_step[h] = 1;
  now.claim_age[h] = 0;
  now.phase[h] = CLAIMING;
}
/* A new claim is a new incarnation. */
static void restart(int h) {
  end(h, ENDED);
}
/* admit(), the fencing of the victim, and the slot. */
static void write_claim(int h) {
  const int self = me(h), life = now.claim_victim[h];
  EACH(l, LIVES) if (host_of(l) == h) now.keys &= ~bit(l); /* a nexus has one key */
  now.keys |= bit(self);
  if (life != NOBODY) {
    if (has(now.keys, life)) {
      preempt_and_abort(life);
    } else {
      now.flying = 0;
    }
  }
  write_slot(now.slot_of[self], self, JOINING, 0);
  now.claim_victim[h] = NOBODY;
  now.claim_step[h] = 2;
  now.claim_age[h] = 0;
}
static void check_claim(int h) {
  if (now.claim_step[h] != 2 || now.claim_age[h] < CLAIM_WAIT) return;
  now.claim_step[h] = 0, now.claim_age[h] = 0;
  if (!holds(me(h))) {
    restart(h);
    return;
  }
  now.phase[h] = ASKING;
}
static int may_live(int h, int life) {
  const int s = now.slot_of[life];
  if (holds(life)) return !slot_dead(h, s);
  if (!occupied(s) || now.slot_life[s] == me(h)) return 0;
  return slot_unknown(h, s) || slot_late(h, s);
}
static int a_member_may_live(int h) {
  EACH(l, LIVES) if (has(now.record_members, l) && may_live(h, l)) return 1;
  return 0;
}
static int a_lower_joiner_may_live(int h) {
  EACH(s, own_slot(h)) if (occupied(s) && !slot_dead(h, s)) return 1;
  return 0;
}
static int fence_all_dead(int h) {
  int dead = 0, all = 1;
  EACH(s, SLOTS) if (occupied(s) && now.slot_life[s] != me(h) && slot_dead(h, s)) dead |= bit(now.slot_life[s]);
  EACH(l, LIVES) {
    if (!has(dead, l) || is_gone(h, l)) continue;
    request_fence(h, l);
    all = 0;
  }
  return all;
}
static void elect(int h) {
  if (now.election[h] == 1) return;
  if (now.election[h] == 2) {
    if (now.election_age[h] < ELECTION_WAIT) return;
    now.election[h] = now.election_age[h] = 0;
    if (now.record_number > now.number[h] && now.record_members == bit(me(h)) && holds(me(h))) {
      renew(h);
      install(h, now.record_number, now.record_members, 1);
    } else {
      now.phase[h] = ASKING;
    }
    return;
  }
  if (a_member_may_live(h) || a_lower_joiner_may_live(h) || !holds(me(h))) {
    now.phase[h] = ASKING;
    return;
  }
  if (!fence_all_dead(h) || next_number(h) > VIEWS || now.record[h]) return;
  now.election[h] = 1;
  now.election_age[h] = 0;
  send_record(h, next_number(h), bit(me(h)));
}
static void ask(int h) {
  if (!holds(me(h))) {
    restart(h);
    return;
  }
  if (now.record_number > now.number[h] && has(now.record_members, me(h))) {
    renew(h);
    install(h, now.record_number, now.record_members, 0);
    return;
  }
  if (a_member_may_live(h)) {
    EACH(l, LIVES) if (has(now.record_members, l) && hear_each_other(h, l)) now.joiners[host_of(l)] |= bit(me(h));
    return;
  }
  if (a_lower_joiner_may_live(h)) return;
  now.phase[h] = ELECTING;
  elect(h);
}

/* ---- the two loops: membership.cpp ---- */
static void scan(int h) {
  EACH(s, SLOTS) {
    if (!(now.unread[s] & bit(h))) continue;
    now.unread[s] &= ~bit(h);
    now.silence[h * SLOTS + s] = 0;
    if (now.unknown[s] & bit(h))
      now.unknown[s] &= ~bit(h), now.seen_to_change[h] &= ~bit(s);
    else
      now.seen_to_change[h] |= bit(s);
  }
  EACH(s, SLOTS) if (!occupied(s)) now.seen_to_change[h] &= ~bit(s);
  EACH(l, LIVES) if (!holds(l)) now.refused[h] &= ~bit(l);
  switch (now.phase[h]) {
    case CLAIMING:
      check_claim(h);
      break;
    case ASKING:
      ask(h);
      break;
    case ELECTING:
      elect(h);
      break;
    case MEMBER:
      check_record(h);
      if (now.phase[h] != MEMBER) break;
      notice_recovered(h);
      arbitrate(h);
      lead(h);
      check_serving();
      break;
  }
}
static void beat(int h) {
  has_beaten = 0;
  if (!knows_area(h) || now.free_step[h]) return;
  if (!has_key(h)) {
    end(h, ENDED);
    return;
  }
  write_slot(own_slot(h), me(h), now.phase[h] == MEMBER ? TAKEN : JOINING, heard_slots(h));
  has_beaten = 1;
}
/* One turn of both. Nothing that the host does in between is lost by that: a lease counts from the earlier of them. */
static void turn(int h) {
  now.turned |= bit(h);
  beat(h);
  if (runs(h)) scan(h);
  check_serving();
}
static void record_lands(int h) { /* area.cpp: write_view(), then recorded() */
  int done = 0;
  const int number = now.record_number_of[h], members = now.record_members_of[h];
  if (has_key(h) && now.record_generation_of[h] >= now.record_generation) {
    now.record_generation = now.record_generation_of[h];
    now.record_number = number, now.record_members = members;
    done = 1;
  }
  now.record[h] = now.record_number_of[h] = now.record_members_of[h] = now.record_generation_of[h] = 0;
  if (!knows_area(h)) return;
  if (!has_key(h)) {
    end(h, ENDED);
    return;
  }
  if (now.phase[h] == ELECTING) {
    if (done && now.election_age[h] <= WINDOW) {
      now.election[h] = 2, now.election_age[h] = 0;
    } else {
      now.election[h] = now.election_age[h] = 0;
#ifndef MEND_LATE_ELECTION
      now.phase[h] = ASKING;
#else
      now.to_free[h] |= bit(me(h));
      now.phase[h] = CLAIMING; /* until its slot is free, then with a new incarnation */
#endif
    }
    return;
  }
  if (now.change[h] != 2) return;
  if (!done) {
    now.change[h] = now.change_number[h] = now.change_members[h] = now.unanswered[h] = 0;
    return;
  }
  install(h, number, members, 0);
}

/* ---- recovery: cluster_node.cpp, and the slot that is freed after it ---- */
/* The lock of the journal: of the lock manager, which knows of those in the same view. */
static int locked_by_another(int h, int s) {
  EACH(o, HOSTS) {
    if (o == h || !now.replay_step[o] || now.slot_of[now.replay_victim[o]] != s) continue;
    if (has(now.view[h], me(o)) && has(now.view[o], me(h))) return 1;
  }
  return 0;
}
static int can_replay(int h, int life) {
  return now.phase[h] == MEMBER && now.replay_step[h] == 0 && !has(now.replaying_all, h) &&
         has(now.recovering[h], life) && !locked_by_another(h, now.slot_of[life]);
}
static void check_alone(int h, int s) {
  if (!has_key(h)) return; /* what it writes is refused */
  EACH(o, HOSTS) {
    if (o != h && has_key(o) && now.replay_step[o] && now.slot_of[now.replay_victim[o]] == s) bad(kTwoReplays);
  }
}
static void begin_replay(int h, int life) {
  check_alone(h, now.slot_of[life]);
  const int whose = now.dirty[now.slot_of[life]];
  if (has_key(h)) now.replayed |= bit(life);
  if (has_key(h) && whose != NOBODY) now.replayed |= bit(whose);
  now.replay_victim[h] = life;
  now.replay_step[h] = whose != NOBODY ? 2 : 1;
}
/* Its last write, if there was anything to write, and recovered(). */
static void end_replay(int h) {
  const int life = now.replay_victim[h], s = now.slot_of[life], writes = now.replay_step[h] == 2;
  now.replay_step[h] = 0, now.replay_victim[h] = NOBODY;
  if (writes && !has_key(h)) {
    if (runs(h)) end(h, ENDED);
    return;
  }
  if (writes) {
    if (!has(now.replayed, now.dirty[s])) bad(kStaleReplay);
    now.dirty[s] = NOBODY;
  }
  if (!runs(h)) return;
  now.recovering[h] &= ~bit(life);
  now.to_free[h] |= bit(life);
  if (!holds(life) && has(now.awaiting[h], life)) node_recovered(h, life);
}
/* replay_all(): the first member, with nobody else in the cluster. */
static int can_replay_all(int h) {
  return now.phase[h] == MEMBER && has(now.replaying_all, h);
}
static void replay_all(int h) {
  if (!has_key(h)) {
    end(h, ENDED);
    return;
  }
  EACH(s, SLOTS) {
    const int life = now.dirty[s];
    if (life == NOBODY || life == me(h)) continue;
    check_alone(h, s);
    now.replayed |= bit(life);
    now.dirty[s] = NOBODY;
  }
  now.replaying_all &= ~bit(h);
}
static int can_begin_free(int h, int life) {
  return has(now.to_free[h], life) && now.free_step[h] == 0 && now.phase[h] <= MEMBER;
}
static void freed(int h) {
  const int life = now.free_victim[h];
  now.free_step[h] = 0, now.free_victim[h] = NOBODY;
  if (!runs(h)) return;
  if (life == me(h)) restart(h);
}
static void begin_free(int h, int life) {
  now.to_free[h] &= ~bit(life);
  now.free_victim[h] = life;
  now.free_step[h] = 2;
#ifndef PLANT_NO_RECHECK
  const int s = now.slot_of[life], other = now.slot_life[s];
#ifdef MEND_FREE_SLOT
  const int freed_for_earlier = !occupied(s) && now.incarnation[other] < now.incarnation[life];
#else
  const int freed_for_earlier = 0;
#endif
  if (other != life && !freed_for_earlier) freed(h);
#endif
}
static void free_lands(int h) {
  const int s = now.slot_of[now.free_victim[h]];
  if (has_key(h))
    write_slot(s, now.free_victim[h], FREE, 0);
  else if (runs(h))
    end(h, ENDED);
  freed(h);
}

/* ---- files ---- */
static int can_write(int h) {
  return h < WRITERS && now.phase[h] == MEMBER && has_key(h) && !has(now.replaying_all, h) && !has(now.flying, me(h));
}
static void write_lands(int life) {
  const int s = now.slot_of[life];
  now.flying &= ~bit(life);
  if (has(now.replayed, life)) bad(kLateWrite);
  if (now.dirty[s] != NOBODY && now.dirty[s] != life) bad(kForeignJournal);
  now.dirty[s] = life;
}

/* ---- time ---- */
static int older(int age, int limit) {
  return age < limit ? age + 1 : age;
}
/* How long it is silent matters to this host. */
static int is_watched(int h, int s) {
  return own_slot(h) != s && (occupied(s) || on_slot(now.view[h], s));
}
static int can_tick(void) {
  EACH(h, HOSTS) {
    if (!runs(h) || has(now.paused, h)) continue;
    if (!has(now.turned, h)) return 0;
  }
  return 1;
}
static void tick(void) {
  now.turned = 0;
  EACH(h, HOSTS) {
    if (now.claim_step[h] == 2) now.claim_age[h] = older(now.claim_age[h], CLAIM_WAIT);
    now.lease[h] = older(now.lease[h], LEASE);
    if (!runs(h)) continue;
    EACH(s, SLOTS) if (is_watched(h, s)) now.silence[h * SLOTS + s] = older(now.silence[h * SLOTS + s], TIMEOUT);
    if (now.fenced[h]) now.fenced_age[h] = older(now.fenced_age[h], TIMEOUT);
    if (now.split_since[h]) now.split_since[h] = older(now.split_since[h], GRACE + 1);
    if (now.election[h]) now.election_age[h] = older(now.election_age[h], larger(WINDOW + 1, ELECTION_WAIT));
  }
}

static void begin(void) {
  EACH(s, SLOTS) now.slot_life[s] = now.dirty[s] = NOBODY, now.slot_state[s] = FREE;
  EACH(l, LIVES) now.slot_of[l] = NOBODY;
  EACH(h, HOSTS) {
    forget(h);
    now.claim_victim[h] = now.free_victim[h] = now.replay_victim[h] = NOBODY;
  }
  EACH(h, MEMBERS) {
    now.slot_of[me(h)] = h, now.slot_life[h] = me(h), now.slot_state[h] = TAKEN;
    now.incarnation[me(h)] = ++now.claims;
    now.slot_hears[h] = (bit(MEMBERS) - 1) & ~bit(h);
    now.keys |= bit(me(h));
    now.record_members |= bit(me(h));
  }
  now.record_generation = now.record_number = MEMBERS > 0;
  EACH(h, MEMBERS) {
    now.phase[h] = MEMBER;
    now.view[h] = now.record_members, now.number[h] = now.promised[h] = now.record_number;
    now.heard[h] = now.record_members & ~bit(me(h));
    now.seen_to_change[h] = bit(MEMBERS) - 1;
    now.lease[h] = 0;
  }
}

/* ---- connections, and what goes over them ---- */
static int can_connect(int h, int o) {
  return h < o && knows_area(h) && knows_area(o) && !hear_each_other(h, me(o));
}
static void connect(int h, int o) {
  now.heard[h] |= bit(me(o)), now.heard[o] |= bit(me(h));
  now.refused[h] &= ~bit(me(o)), now.refused[o] &= ~bit(me(h));
}
static int can_disconnect(int h, int life) {
  if (!has(now.heard[h], life)) return 0;
  return !current(life) || !knows_area(host_of(life)) || now.drops < DROPS;
}
static void disconnect(int h, int life) {
  if (current(life) && knows_area(host_of(life))) ++now.drops;
  now.heard[h] &= ~bit(life);
  if (has(now.view[h], life)) now.broken |= bit(h);
  if (now.change[h] == 1 && has(now.change_members[h], life)) now.unanswered[h] |= bit(life);
}
/* Its host says that nothing listens there any more. */
static int can_be_refused(int h, int life) {
  return now.phase[h] == MEMBER && now.phase[host_of(life)] == CRASHED && current(life) && holds(life) &&
         !has(now.heard[h], life) && !has(now.refused[h], life);
}
static int can_pause(int h) {
  return runs(h) && !has(now.paused, h) && now.pauses < PAUSES;
}
static int can_crash(int h) {
  return runs(h) && now.phase[h] != STARTING && now.crashes < CRASHES;
}
