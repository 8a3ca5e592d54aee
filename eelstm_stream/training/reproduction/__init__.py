"""The paper's tables and figures again, under its own protocol and under an honest one."""
