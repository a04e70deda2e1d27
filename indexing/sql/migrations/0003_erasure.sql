-- Erasures and their receipts. A receipt outlives what it tells of: it belongs to no
-- publisher's row, and has nothing of the publisher but ids and counts.

create table erasure (
    -- In the order of the requests.
    id text collate "C" primary key,
    publisher_id text collate "C" not null,
    -- With the id it names the publisher, as the id may be given again.
    publisher_create_time timestamptz not null,
    -- Null where the whole publisher was erased.
    reference_id text collate "C",
    -- The first gallery version without it; where the publisher was erased, one that its
    -- gallery never had.
    gallery_version bigint not null,
    reference_count bigint not null,
    image_count bigint not null,
    feature_count bigint not null,
    blob_count bigint not null,
    request_time timestamptz not null default now(),
    -- When the last blob was gone.
    blob_delete_time timestamptz,
    -- When the last index had confirmed besides.
    complete_time timestamptz
);

-- Lists the receipts of a publisher.
create index erasure_publisher on erasure (publisher_id, id);

create index erasure_incomplete on erasure (id) where complete_time is null;

-- The blobs still to delete: written with the deletion of their rows, so that no crash
-- in between leaves one behind.
create table erasure_blob (
    erasure_id text collate "C" not null references erasure (id) on delete cascade,
    key text collate "C" not null,
    primary key (erasure_id, key)
);

create index erasure_blob_key on erasure_blob (key);

-- The processes that hold indexes, and when each last said that it lives.
create table shard_replica (
    id text collate "C" primary key,
    seen_time timestamptz not null default now()
);

-- Which process confirmed an erasure, and when; no time where it was lost before it could.
create table erasure_confirmation (
    erasure_id text collate "C" not null references erasure (id) on delete cascade,
    replica_id text collate "C" not null,
    confirm_time timestamptz,
    primary key (erasure_id, replica_id)
);

create index erasure_confirmation_lost on erasure_confirmation (replica_id)
    where confirm_time is null;
