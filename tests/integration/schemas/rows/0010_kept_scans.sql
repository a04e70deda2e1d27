insert into publisher (id, display_name, false_accept_budget, max_kept_scans)
values ('consenting', '', 0.001, 50);
insert into kept_scan (publisher_id, id, answered, model_version, stored)
values ('consenting', 'scan', '{}', 'model-1', true);
