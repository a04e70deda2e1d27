insert into publisher (id, display_name, false_accept_budget, gallery_version)
values ('acme', 'Acme', 0.001, 1);
insert into api_key (id, publisher_id, role, secret_sha256, display_name)
values ('key', 'acme', 'scan', decode(repeat('00', 32), 'hex'), '');
insert into reference (publisher_id, id, link, metadata)
values ('acme', 'poster', 'https://example.com/', '{"title": "poster"}');
insert into reference_image (id, publisher_id, reference_id, width, height, sha256)
values ('00000000-0000-4000-8000-000000000001', 'acme', 'poster', 640, 480, decode(repeat('00', 32), 'hex'));
insert into image_features (image_id, model_version, embedding, local_features)
values ('00000000-0000-4000-8000-000000000001', 'model-1', '\x01', '\x02');
insert into change (publisher_id, gallery_version, reference_id) values ('acme', 1, 'poster');
insert into register_request (publisher_id, request_id, fingerprint, reference_id, gallery_version)
values ('acme', 'request', '\x03', 'poster', 1);
