-- Photos of scans, kept with the consent of their publishers to compare model versions on.

-- How many a publisher agreed to have kept; 0 is no consent.
alter table publisher
    add column max_kept_scans integer not null default 0 check (max_kept_scans between 0 and 1000);

-- The photo itself is a blob whose key follows from the publisher and the id.
create table kept_scan (
    publisher_id text collate "C" not null references publisher (id) on delete cascade,
    id text collate "C" not null,
    -- The references that were answered, none for no match: with any of them the scan goes.
    answered text[] not null,
    model_version text collate "C" not null,
    scan_time timestamptz not null default now(),
    -- Whether the blob was written. The row is there before the blob and until after it, so that
    -- no crash leaves a photo that nothing tells of.
    stored boolean not null default false,
    primary key (publisher_id, id)
);

alter table kept_scan enable row level security, force row level security;

create policy publisher on kept_scan using (is_confined_to(publisher_id));

-- Null in receipts of code that kept no scans.
alter table erasure add column scan_count bigint default 0;
