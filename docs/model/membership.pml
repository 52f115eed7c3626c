/*
 * Membership, arbitration, fencing and replay as the code has them. README.md tells what is left out, and why that is
 * sound. Functions that are named like the code's (cluster/membership_core.h, fence/reservation_fencer.cpp,
 * node/cluster_node.cpp) do what those do; they are C that spin compiles in, each one step of the model.
 *
 * A host lives several lives, each with a higher incarnation: life h * LIVES_OF_HOST + k is the k-th of host h. Sets of lives, of
 * slots and of hosts are bit masks. Time is counted in ticks, which may come at any moment and as many as they like: a
 * host that does nothing meanwhile is one that was paused, or whose disk is slow.
 */
#include "configuration.h"

/* ---- the disk ---- */
byte keys;          /* lives that are registered; the reservation is always there */
byte flying;        /* lives of which the disk has taken in a write to files that is not executed yet */
byte slot_life[SLOTS];  /* who wrote it last */
byte slot_state[SLOTS];
byte slot_hears[SLOTS]; /* slots */
byte unread[SLOTS];     /* hosts that have not read the slot since it was written last */
byte unknown[SLOTS];    /* hosts that have not read it since another life wrote it */
byte record_generation, record_number, record_members;
byte dirty[SLOTS];      /* whose changes the journal holds, NOBODY: clean */

/* ---- hosts ---- */
byte phase[HOSTS];
byte nth[HOSTS]; /* which of its lives */
byte slot_of[LIVES];
byte incarnation[LIVES];
byte heard[HOSTS]; /* lives to which there is a connection */
byte refused[HOSTS];
byte view[HOSTS], number[HOSTS];
byte promised[HOSTS], promised_to[HOSTS];
byte broken, outvoted, replaying_all; /* hosts */
byte paused, turned; /* hosts; the latter since the last tick */
byte split_since[HOSTS]; /* 0: no split, else ticks since it began, plus 1 */
byte joiners[HOSTS], admitted[HOSTS];
byte fencing[HOSTS], fenced[HOSTS], fenced_age[HOSTS];
byte recovering[HOSTS], awaiting[HOSTS];
byte silence[WATCHES]; /* of slot s to host h: h * SLOTS + s */
byte seen_to_change[HOSTS]; /* slots, within one life */
byte change[HOSTS]; /* 0 none, 1 members are asked, 2 answered by all */
byte change_number[HOSTS], change_members[HOSTS], unanswered[HOSTS];
byte election[HOSTS]; /* 0 not begun, 1 the record is under way, 2 it is written */
byte election_age[HOSTS];
byte lease[HOSTS];    /* age of the older one of heartbeat_begun_ and confirmed_ */

/* ---- commands under way ---- */
byte claim_step[HOSTS]; /* 1 to be written, 2 written */
byte claim_victim[HOSTS], claim_age[HOSTS];
byte record[HOSTS], record_number_of[HOSTS], record_members_of[HOSTS], record_generation_of[HOSTS];
byte settling[HOSTS], fence_victim[HOSTS]; /* its key is gone, what it had sent is not */
byte to_free[HOSTS], free_step[HOSTS], free_victim[HOSTS]; /* 2: looked at, to be written */
byte replay_step[HOSTS], replay_victim[HOSTS]; /* 1 there is nothing to write, 2 a write is under way */

/* ---- for the properties ---- */
byte replayed; /* lives the replay of whose journals has begun */
byte crashes, drops, pauses, claims;
byte fault; /* which property does not hold */

c_code {
\#include "steps.h"
}

/* Whatever a step does, no property may be hurt. */
#define DO(call) d_step { c_code { call; }; assert(fault == 0) }
#define WHEN(guard, call) atomic { c_expr { (guard) } -> DO(call) }
/* Steps of a host that is not paused. */
#define GOING(guard, call) WHEN(!has(now.paused, PHost->h) && (guard), call)
#define EACH_LIFE(macro, h) macro(h, 0) macro(h, 1) macro(h, 2) macro(h, 3) macro(h, 4) macro(h, 5) macro(h, 6) macro(h, 7)
#define EACH_HOST(macro, h) macro(h, 0) macro(h, 1) macro(h, 2)
#define ON_SLOT(h, x) :: GOING(x < SLOTS && can_claim(h, x), claim(h, x))
#ifdef PLANT_NO_VERIFY
#define FENCING_FAILS(h, x) :: GOING(x < LIVES && can_fence(h, x), fence_fails(h, x))
#else
#define FENCING_FAILS(h, x)
#endif
#define ON_LIFE(h, x)                                                        \
  :: GOING(x < LIVES && can_fence(h, x), fence(h, x))                        \
  FENCING_FAILS(h, x)                                                        \
  :: GOING(x < LIVES && can_replay(h, x), begin_replay(h, x))                \
  :: GOING(x < LIVES && can_begin_free(h, x), begin_free(h, x))              \
  :: GOING(x < LIVES && can_disconnect(h, x), disconnect(h, x))              \
  :: GOING(x < LIVES && can_be_refused(h, x), now.refused[h] |= bit(x))
#define ON_HOST(h, x)                                                        \
  :: GOING(x < HOSTS && can_connect(h, x), connect(h, x))                    \
  :: GOING(x < HOSTS && can_prepare(h, x), prepare(h, x))

proctype Host(byte h) {
  do
  :: GOING(runs(PHost->h), turn(PHost->h))
  :: GOING(now.claim_step[PHost->h] == 1, write_claim(PHost->h))
  :: GOING(can_replay_all(PHost->h), replay_all(PHost->h))
  :: GOING(can_begin_anew(PHost->h), begin_anew(PHost->h))
  :: GOING(can_commit(PHost->h), commit(PHost->h))
  :: GOING(can_write(PHost->h), now.flying |= bit(me(PHost->h)))
  EACH_HOST(ON_SLOT, PHost->h)
  EACH_LIFE(ON_LIFE, PHost->h)
  EACH_HOST(ON_HOST, PHost->h)
  /* What is on its way to the disk arrives whatever becomes of the host. */
  :: WHEN(now.record[PHost->h], record_lands(PHost->h))
  :: WHEN(now.free_step[PHost->h] == 2, free_lands(PHost->h))
  :: WHEN(now.replay_step[PHost->h], end_replay(PHost->h))
  :: WHEN(has(now.flying, me(PHost->h)), write_lands(me(PHost->h)))
  /* Failures. */
  :: WHEN(can_crash(PHost->h), ++now.crashes; end(PHost->h, CRASHED))
  :: WHEN(can_pause(PHost->h), ++now.pauses; now.paused |= bit(PHost->h))
  :: WHEN(has(now.paused, PHost->h), now.paused &= ~bit(PHost->h))
  od
}

proctype Time() {
  do
  :: WHEN(can_tick(), tick())
  od
}

init {
  byte h;
  atomic {
    c_code { begin(); };
    for (h : 0 .. HOSTS - 1) { run Host(h) }
    run Time();
  }
}
