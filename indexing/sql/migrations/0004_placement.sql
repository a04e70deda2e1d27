-- The shards, and the publishers whose shards hashing does not decide. Everybody who scans
-- follows these rows; every change of them is notified.

create table shard (
    number integer primary key check (number >= 0),
    state text collate "C" not null
        check (state in ('joining', 'active', 'draining', 'drained')),
    state_time timestamptz not null default now()
);

-- A pinned publisher has one shard; another has one for each of its parts, in their order.
create table placement (
    publisher_id text collate "C" primary key references publisher (id) on delete cascade,
    shards integer[] not null check (cardinality(shards) > 0),
    pinned boolean not null,
    check (not pinned or cardinality(shards) = 1)
);
