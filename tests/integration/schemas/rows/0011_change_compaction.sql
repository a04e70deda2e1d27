insert into change (publisher_id, gallery_version, reference_id)
values ('consenting', 1, 'poster'), ('consenting', 2, 'poster');
