INSERT INTO meta (key, value) VALUES ('conflicts', 1)
ON CONFLICT (key) DO UPDATE SET value = value + 1
