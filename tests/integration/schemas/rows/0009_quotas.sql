insert into publisher (id, display_name, false_accept_budget, max_scans_per_second, max_references)
values ('bounded', '', 0.001, 2.5, 100);
