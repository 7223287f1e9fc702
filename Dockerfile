# The API image: the training image with another command. It writes to /tmp and /dev/shm only.
ARG TRAINING_IMAGE=pmip:latest
FROM ${TRAINING_IMAGE}
ENV HOST=0.0.0.0 PORT=8000
EXPOSE 8000
HEALTHCHECK --start-period=20s --timeout=5s CMD ["python", "-c", "\
import http.client, os, sys; \
api = http.client.HTTPConnection('127.0.0.1', int(os.environ['PORT']), timeout=4); \
api.request('GET', '/healthcheck'); \
sys.exit(api.getresponse().status != 200)"]
CMD ["-c", "exec gunicorn -c python:pmip.gunicorn_conf pmip.wsgi:app"]
