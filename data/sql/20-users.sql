-- Dummy data.
INSERT INTO users (name, email, created_at) VALUES
  ('Ada Lovelace', 'ada@example.com', '2024-12-10 09:00:00'),
  ('Grace Hopper', 'grace@example.com', '2024-12-09 09:00:00'),
  ('Edsger Dijkstra', 'edsger@example.com', '2025-05-11 09:00:00'),
  ('Barbara Liskov', 'barbara@example.com', '2025-11-07 09:00:00'),
  ('Zoë Müller-García', 'zoe@example.com', '2026-01-06 09:00:00');
