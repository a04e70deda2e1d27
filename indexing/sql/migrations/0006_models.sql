-- Model versions, which of them serves whom, and the rollouts that change it.
--
-- An index of a publisher holds one version's features of all images. So whatever a scanner
-- may search with needs features of every image, always: those of the version in service, and
-- while a rollout is under way those of both of its versions, once the backfill is done. Who
-- writes images holds a shared advisory lock until the commit while it looks which versions
-- those are; who begins a rollout takes it alone. No image that was written before is missed
-- by the backfill, and none that is written after lacks a version.

create table model (
    version text collate "C" primary key,
    -- The bundle's; the bundle itself is in the blob store.
    manifest jsonb not null,
    size_bytes bigint not null,
    -- Whether images may have features of it that are still to delete when it is not needed.
    has_features boolean not null default false,
    create_time timestamptz not null default now()
);

-- One row: the version that serves every publisher that has none of its own.
create table serving (
    singleton boolean primary key default true check (singleton),
    model_version text collate "C" not null references model (version),
    -- Counts what scanners have to follow: this row, the publishers' and the rollouts'.
    epoch bigint not null default 0
);

create table publisher_model (
    publisher_id text collate "C" primary key references publisher (id) on delete cascade,
    model_version text collate "C" not null references model (version)
);

create table rollout (
    -- In the order of their beginnings.
    id text collate "C" primary key,
    model_version text collate "C" not null references model (version) on delete cascade,
    former_version text collate "C" not null references model (version) on delete cascade,
    state text collate "C" not null check (
        state in (
            'backfilling', 'evaluating', 'ready', 'canary', 'active',
            'completed', 'cancelled', 'failed'
        )
    ),
    create_time timestamptz not null default now(),
    state_time timestamptz not null default now(),
    paused boolean not null default false,
    max_images_per_second double precision not null default 0,
    shadow_share double precision not null default 0,
    -- How the two versions compare; null before they were compared.
    gate jsonb,
    -- Whether it was activated although the comparison had failed.
    forced boolean not null default false,
    problem text not null default '',
    -- When publishers were last switched, in either direction.
    switch_time timestamptz,
    -- The backfill's pace, and when it was measured.
    images_per_second double precision not null default 0,
    pace_time timestamptz
);

create unique index rollout_under_way on rollout ((true))
    where state in ('backfilling', 'evaluating', 'ready', 'canary', 'active');

-- Counts a version's features, and finds them when they are to go.
create index image_features_model on image_features (model_version);

-- An image that a version can make nothing of has an empty embedding.
create index image_features_unusable on image_features (model_version) where embedding = '';

-- The scanners, the versions that each has loaded, and when each last said that it lives.
create table scanner (
    id text collate "C" primary key,
    models text[] not null,
    seen_time timestamptz not null default now()
);

-- How scans went, by minute: the watch over a rollout compares them.
create table scan_count (
    minute timestamptz not null,
    publisher_id text collate "C" not null,
    model_version text collate "C" not null,
    scans bigint not null,
    matches bigint not null,
    seconds double precision not null,
    primary key (minute, publisher_id, model_version)
);

-- What both versions of a rollout answered to the same scans.
create table shadow_count (
    rollout_id text collate "C" primary key references rollout (id) on delete cascade,
    scans bigint not null,
    agreed bigint not null,
    former_only bigint not null,
    new_only bigint not null
);
