insert into model (version, manifest, size_bytes) values ('model-1', '{}', 1), ('model-2', '{}', 1);
insert into serving (model_version) values ('model-1');
insert into publisher_model (publisher_id, model_version) values ('acme', 'model-2');
insert into rollout (id, model_version, former_version, state)
values ('rollout', 'model-2', 'model-1', 'canary');
insert into scanner (id, models) values ('scanner', '{model-1,model-2}');
insert into scan_count (minute, publisher_id, model_version, scans, matches, seconds)
values (now(), 'acme', 'model-2', 1, 1, 0.1);
insert into shadow_count (rollout_id, scans, agreed, former_only, new_only)
values ('rollout', 1, 1, 0, 0);
