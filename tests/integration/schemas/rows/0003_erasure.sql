insert into erasure (
    id, publisher_id, publisher_create_time, reference_id, gallery_version, reference_count,
    image_count, feature_count, blob_count
) values ('erasure', 'acme', now(), 'gone', 2, 1, 1, 1, 1);
insert into erasure_blob (erasure_id, key) values ('erasure', 'images/acme/gone');
insert into shard_replica (id) values ('replica');
insert into erasure_confirmation (erasure_id, replica_id, confirm_time)
values ('erasure', 'replica', now());
