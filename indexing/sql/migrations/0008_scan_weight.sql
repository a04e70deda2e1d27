-- How many scans a publisher's turn in the queue of a scanner takes.
alter table publisher add column scan_weight integer not null default 1
    check (scan_weight between 1 and 100);
