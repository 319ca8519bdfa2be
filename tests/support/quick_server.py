"""``medward serve`` as it is, but less patient with what is away and sooner asking again, so that tests are short."""

from __future__ import annotations

from medward.integrations.cli import main
from medward.integrations.redis_store import RedisStore
from medward.integrations.serving import circuit_breaker, health

if __name__ == "__main__":
    health.SECONDS_KEPT, circuit_breaker.AWAY_KEPT = 0.0, 0.05
    RedisStore.__init__.__kwdefaults__["timeout"] = 0.5
    main()
