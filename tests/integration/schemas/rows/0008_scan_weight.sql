insert into publisher (id, display_name, false_accept_budget, scan_weight)
values ('heavy', '', 0.001, 3);
