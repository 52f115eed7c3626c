/* What spin and the C compiler are told with -D, and cluster/timing.h in ticks. */
#ifndef HOSTS
#define HOSTS 2 /* hosts */
#endif
#ifndef LIVES_OF_HOST
#define LIVES_OF_HOST 2 /* lives of a host */
#endif
#ifndef SLOTS
#define SLOTS HOSTS /* slots, journals */
#endif
#ifndef MEMBERS
#define MEMBERS SLOTS /* hosts that are members when the story begins; the others have yet to join */
#endif
#ifndef CRASHES
#define CRASHES 1
#endif
#ifndef DROPS
#define DROPS 1 /* ends of connections between the living that break */
#endif
#ifndef PAUSES
#define PAUSES 1 /* of hosts */
#endif
#ifndef WRITERS
#define WRITERS 1 /* hosts that write files: the first so many */
#endif
#ifndef VIEWS
#define VIEWS 7 /* highest number of a view */
#endif

/* cluster/timing.h in ticks. */
#ifndef TIMEOUT
#define TIMEOUT 4
#define LEASE 3
#define LATE 2
#define GRACE 2
#define ENDED_AFTER 1
#define CLAIM_WAIT 1
#define WINDOW 1
#define ELECTION_WAIT 2
#endif

#define LIVES (HOSTS * LIVES_OF_HOST)
#define WATCHES (HOSTS * SLOTS)
#define NOBODY 255

/* Phases of a host. */
#define STARTING 0
#define CLAIMING 1
#define ASKING 2
#define ELECTING 3
#define MEMBER 4
#define CRASHED 5
#define ENDED 6

/* States of a slot. */
#define FREE 0
#define JOINING 1
#define TAKEN 2 /* by a member */
