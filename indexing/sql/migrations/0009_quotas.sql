-- What a publisher may have: scans a second of each scanner, and references. 0 is no limit.
alter table publisher
    add column max_scans_per_second double precision not null default 0
        check (max_scans_per_second = 0 or max_scans_per_second between 0.001 and 1000000),
    add column max_references bigint not null default 0
        check (max_references between 0 and 1000000000);
