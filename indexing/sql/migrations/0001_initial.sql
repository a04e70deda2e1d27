-- The source of truth: publishers, their keys, their references and the features
-- of the references' images. Everything belongs to a publisher and goes with it.
--
-- Identifiers compare by bytes (collate "C"): pages by id come in the same order on
-- every system, and an upgrade of the system's collations cannot corrupt an index.

create table publisher (
    id text collate "C" primary key,
    display_name text not null,
    suspended boolean not null default false,
    false_accept_budget double precision not null
        check (false_accept_budget > 0 and false_accept_budget < 1),
    -- Counts the writes to the gallery. Whoever writes holds this row's lock until the
    -- commit, so that versions are gapless and in commit order; a sequence is neither.
    gallery_version bigint not null default 0,
    create_time timestamptz not null default now()
);

create table api_key (
    id text collate "C" primary key,
    -- Null for an operator's key.
    publisher_id text collate "C" references publisher (id) on delete cascade,
    role text not null check (role in ('scan', 'publish', 'operate')),
    secret_sha256 bytea not null check (octet_length(secret_sha256) = 32),
    display_name text not null,
    create_time timestamptz not null default now(),
    revoke_time timestamptz,
    -- The operator's keys alone belong to nobody.
    check ((publisher_id is null) = (role = 'operate'))
);

-- Lists the keys of a publisher by id, and serves the cascade.
create index api_key_publisher on api_key (publisher_id, id);

create table reference (
    publisher_id text collate "C" not null references publisher (id) on delete cascade,
    id text collate "C" not null,
    link text not null,
    metadata jsonb not null,
    active boolean not null default true,
    create_time timestamptz not null default now(),
    update_time timestamptz not null default now(),
    primary key (publisher_id, id)
);

-- The image itself is a blob whose key follows from the publisher and the image id.
create table reference_image (
    id uuid primary key,
    publisher_id text collate "C" not null,
    reference_id text collate "C" not null,
    width integer not null check (width > 0),
    height integer not null check (height > 0),
    sha256 bytea not null check (octet_length(sha256) = 32),
    create_time timestamptz not null default now(),
    foreign key (publisher_id, reference_id)
        references reference (publisher_id, id) on delete cascade
);

create index reference_image_reference on reference_image (publisher_id, reference_id);

create table image_features (
    image_id uuid not null references reference_image (id) on delete cascade,
    model_version text collate "C" not null,
    embedding bytea not null,
    local_features bytea not null,
    primary key (image_id, model_version)
);

-- Features are noise to a compressor: do not spend time on trying.
alter table image_features alter column embedding set storage external;
alter table image_features alter column local_features set storage external;

-- The log that the indexes follow: which reference each gallery version wrote. It
-- outlives the reference (no foreign key), which is how an index learns of a deletion.
create table change (
    publisher_id text collate "C" not null references publisher (id) on delete cascade,
    gallery_version bigint not null,
    reference_id text collate "C" not null,
    change_time timestamptz not null default now(),
    primary key (publisher_id, gallery_version)
);

-- Which registrations were done, so that a repeated call answers what the first did.
create table register_request (
    publisher_id text collate "C" not null references publisher (id) on delete cascade,
    request_id text collate "C" not null,
    -- Digest of the request's content: the same id with another content is an error.
    fingerprint bytea not null,
    reference_id text collate "C" not null,
    gallery_version bigint not null,
    create_time timestamptz not null default now(),
    primary key (publisher_id, request_id)
);
