// Reads a config_dump from stdin as `istioctl proxy-config all -f` does (its configdump.Wrapper: one ConfigDump by its @type URLs, unknown
// fields and unknown types passed over, the sections found by their full type URL, each resource unpacked from its Any) and prints what it
// found, one line each:
//
//	bootstrap ID ISTIO_VERSION
//	cluster|listener|route|endpoint|secret NAME VERSION UPDATED DETAIL
//
// The order is istioctl's; it stops, as istioctl does, at the first section that is missing or cannot be unpacked.
package main

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	admin "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/grpc_stats/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/jwt_authn/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/tls_inspector/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/raw_buffer/v3"
	tls "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	expr "google.golang.org/genproto/googleapis/api/expr/v1alpha1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Unknown messages become google.api.expr.v1alpha1.Type, istioctl's stand-in.
type resolver struct{ *protoregistry.Types }

func (r resolver) FindMessageByName(name protoreflect.FullName) (protoreflect.MessageType, error) {
	if t, err := protoregistry.GlobalTypes.FindMessageByName(name); err == nil {
		return t, nil
	}
	return (&expr.Type{}).ProtoReflect().Type(), nil
}

func (r resolver) FindMessageByURL(url string) (protoreflect.MessageType, error) {
	return r.FindMessageByName(protoreflect.FullName(url[strings.LastIndex(url, "/")+1:]))
}

func fail(format string, args ...any) {
	fmt.Printf("error "+format+"\n", args...)
	os.Exit(1)
}

func section(dump *admin.ConfigDump, name string, into proto.Message) {
	url := "type.googleapis.com/envoy.admin.v3." + name
	var found *anypb.Any
	for _, c := range dump.Configs {
		if c.TypeUrl == url {
			found = c
		}
	}
	if found == nil {
		fail("config dump has no configuration type %s", url)
	}
	if err := found.UnmarshalTo(into); err != nil {
		fail("%s: %v", name, err)
	}
}

func unpack(a *anypb.Any, into proto.Message) {
	if err := a.UnmarshalTo(into); err != nil {
		fail("%T: %v", into, err)
	}
}

func say(kind, name, version string, updated *timestamppb.Timestamp, detail string) {
	when := "never"
	if updated != nil && updated.IsValid() {
		when = updated.AsTime().UTC().Format(time.RFC3339)
	}
	fmt.Printf("%s\t%s\t%s\t%s\t%s\n", kind, name, version, when, detail)
}

func main() {
	text, err := io.ReadAll(os.Stdin)
	if err != nil {
		fail("%v", err)
	}
	dump := &admin.ConfigDump{}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true, Resolver: resolver{protoregistry.GlobalTypes}}).Unmarshal(text, dump); err != nil {
		fail("error unmarshalling config dump response from Envoy: %v", err)
	}

	bootstrap := &admin.BootstrapConfigDump{}
	section(dump, "BootstrapConfigDump", bootstrap)
	node := bootstrap.GetBootstrap().GetNode()
	say("bootstrap", node.GetId(), node.GetMetadata().GetFields()["ISTIO_VERSION"].GetStringValue(), bootstrap.LastUpdated, node.GetCluster())

	clusters := &admin.ClustersConfigDump{}
	section(dump, "ClustersConfigDump", clusters)
	for _, d := range clusters.DynamicActiveClusters {
		c := &cluster.Cluster{}
		unpack(d.Cluster, c)
		say("cluster", c.Name, d.VersionInfo, d.LastUpdated, c.GetType().String())
	}

	listeners := &admin.ListenersConfigDump{}
	section(dump, "ListenersConfigDump", listeners)
	for _, d := range listeners.DynamicListeners {
		l := &listener.Listener{}
		unpack(d.ActiveState.GetListener(), l)
		routes := []string{}
		for _, chain := range l.FilterChains {
			for _, f := range chain.Filters {
				if f.Name == "envoy.filters.network.http_connection_manager" {
					m := &hcm.HttpConnectionManager{}
					unpack(f.GetTypedConfig(), m)
					routes = append(routes, m.GetRds().GetRouteConfigName())
				}
			}
		}
		if d.Name != l.Name {
			fail("listener %s is named %s", l.Name, d.Name)
		}
		say("listener", l.Name, d.ActiveState.VersionInfo, d.ActiveState.LastUpdated, strings.Join(routes, ","))
	}

	routes := &admin.RoutesConfigDump{}
	section(dump, "RoutesConfigDump", routes)
	for _, d := range routes.DynamicRouteConfigs {
		r := &route.RouteConfiguration{}
		unpack(d.RouteConfig, r)
		say("route", r.Name, d.VersionInfo, d.LastUpdated, fmt.Sprint(len(r.VirtualHosts)))
	}

	secrets := &admin.SecretsConfigDump{}
	section(dump, "SecretsConfigDump", secrets)
	for _, d := range append(secrets.DynamicActiveSecrets, secrets.DynamicWarmingSecrets...) {
		s := &tls.Secret{}
		unpack(d.Secret, s)
		chain := s.GetTlsCertificate().GetCertificateChain().GetInlineBytes()
		if chain == nil {
			chain = s.GetValidationContext().GetTrustedCa().GetInlineBytes()
		}
		block, _ := pem.Decode(chain)
		if block == nil {
			fail("secret %s: no PEM", s.Name)
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			fail("secret %s: %v", s.Name, err)
		}
		say("secret", d.Name, d.VersionInfo, d.LastUpdated, certificate.Subject.CommonName+" "+string(s.GetTlsCertificate().GetPrivateKey().GetInlineBytes()))
	}

	endpoints := &admin.EndpointsConfigDump{}
	section(dump, "EndpointsConfigDump", endpoints)
	for _, d := range endpoints.DynamicEndpointConfigs {
		a := &endpoint.ClusterLoadAssignment{}
		unpack(d.EndpointConfig, a)
		n := 0
		for _, l := range a.Endpoints {
			n += len(l.LbEndpoints)
		}
		say("endpoint", a.ClusterName, d.VersionInfo, d.LastUpdated, fmt.Sprint(n))
	}
}
